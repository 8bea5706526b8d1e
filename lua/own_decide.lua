-- Decides a request that is one consume on a key of its own, between own_read.lua and own_book.lua, as `decide` in the driver does others.
-- Known before: `capacity` and `cost` of the limit; `class` and `hits` of the charge; `flags`, `quota_limits` and `quota_over` of the
-- request. Known after: `denied`, and what own_book.lua needs.
local units = hits * cost
local over = used + units > capacity
if class >= QUOTA then
  quota_limits = quota_limits + 1
  if over and class == QUOTA then
    quota_over = quota_over + 1
  end
end
local denied = flags < 2
  and (flags == 1 or (over and class == 0) or (quota_limits > 0 and quota_over >= quota_limits))
local booked = not over and not denied and units or 0
