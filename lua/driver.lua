-- The driver: decides the requests of a call one after the other, each all-or-nothing for itself and seeing those before it,
-- then writes each counter once. Equals `decide` in src/limiter/request.rs.
local ALGORITHMS = { sliding_window, fixed_window, token_bucket }
local CONSUME, RECORD, PEEK, REFUND = 0, 1, 2, 3
local SHADOW, QUOTA, QUOTA_SHADOW = 1, 2, 3
local ALLOWED, DENIED, TOO_LATE, NOT_OURS = 0, 1, 2, 3

local requests, charges = rows('dHBII', 19, ARGV[1]), rows('HHBBd', 14, ARGV[2])
local built, owner = {}, {} -- the algorithms in use, by number and by key
local booked, booked_by = {}, {} -- by key: units that charges of the request `booked_by` took
local over, used, mine, wait, plain = {}, {}, {}, {}, {} -- by charge
local out, o = { now }, 1

-- The verdict of charge `c` of request `r`. Writes nothing. False if the key holds something that is not ours.
local function judge(r, c)
  local k, l, mode, hits = charges[c], charges[c + 1], charges[c + 2], charges[c + 4]
  local number = limits[l]
  local algorithm = built[number]
  if not algorithm then
    algorithm = ALGORITHMS[number]()
    built[number] = algorithm
  end
  if owner[k] and owner[k] ~= algorithm then
    return false
  end
  local now_used, is_plain = algorithm.level(k, l)
  if not now_used then
    return false
  end
  owner[k] = algorithm
  local capacity, before_me = limits[l + 1], booked_by[k] == r and booked[k] or 0
  local shown = now_used + before_me
  over[c], used[c], mine[c], wait[c], plain[c] = false, shown, before_me, false, is_plain
  if mode == CONSUME then
    local units = hits * limits[l + 2]
    if shown + units <= capacity then
      booked[k], booked_by[k] = before_me + units, r
    else
      over[c], wait[c] = true, algorithm.wait(k, l, before_me, hits)
    end
  elseif mode == RECORD then
    before_me = before_me + min(hits * limits[l + 2], max(UNITS_MAX - shown, 0))
    booked[k], booked_by[k], used[c] = before_me, r, now_used + before_me
    over[c] = used[c] > capacity
    wait[c] = over[c] and algorithm.wait(k, l, before_me, hits) or algorithm.empty(k, l, before_me)
  elseif mode == PEEK then
    over[c] = shown > capacity
    wait[c] = over[c] and algorithm.wait(k, l, before_me, 0) or algorithm.empty(k, l, before_me)
  end
  return true
end

-- Books charge `c` as the request's verdict allows.
local function book(c, denied)
  local k, l, mode, hits = charges[c], charges[c + 1], charges[c + 2], charges[c + 4]
  local algorithm = owner[k]
  if mode == CONSUME then
    if not denied and not over[c] and hits > 0 then
      algorithm.charge(k, l, hits)
    end
  elseif mode == RECORD then
    if hits > 0 then
      algorithm.charge(k, l, hits)
    end
  elseif mode == REFUND then
    local left = algorithm.level(k, l)
    if hits > 0 and left > 0 then
      algorithm.refund(k, l, hits)
      left = algorithm.level(k, l)
    end
    used[c], wait[c] = left, algorithm.empty(k, l, 0)
  end
end

local first = 1
for r = 1, #ARGV[1] / 19 * 5, 5 do
  local not_after, last, flags = requests[r], first + requests[r + 1] * 5 - 5, requests[r + 2]
  local quota_limits, quota_over, enforced, stranger = requests[r + 3], requests[r + 4], false, nil
  if not_after > 0 and now > not_after then
    o = o + 1
    out[o] = TOO_LATE
  else
    for c = first, last, 5 do
      if not judge(r, c) then
        stranger = charges[c]
        break
      end
      local class = charges[c + 3]
      if class >= QUOTA then
        quota_limits = quota_limits + 1
        if over[c] and class == QUOTA then
          quota_over = quota_over + 1
        end
      elseif class ~= SHADOW and over[c] then
        enforced = true
      end
    end
    if stranger then
      out[o + 1], out[o + 2] = NOT_OURS, stranger
      o = o + 2
    else
      local denied = flags < 2 and (flags == 1 or enforced or (quota_limits > 0 and quota_over >= quota_limits))
      o = o + 1
      out[o] = denied and DENIED or ALLOWED
      if denied then -- what fits shows the counter as it is before anything of the request is booked
        for c = first, last, 5 do
          if not wait[c] and charges[c + 2] == CONSUME then
            wait[c] = owner[charges[c]].empty(charges[c], charges[c + 1], mine[c])
          end
        end
      else
        for c = first, last, 5 do
          if not wait[c] and charges[c + 2] == CONSUME and not (plain[c] and charges[c + 4] > 0) then
            local k, l = charges[c], charges[c + 1]
            wait[c] = owner[k].empty(k, l, mine[c] + charges[c + 4] * limits[l + 2])
          end
        end
      end
      for c = first, last, 5 do
        book(c, denied)
        if wait[c] then
          out[o + 1], out[o + 2] = -1 - used[c], wait[c]
          o = o + 2
        else
          o = o + 1
          out[o] = used[c]
        end
      end
    end
  end
  first = last + 5
end

for k = 1, #KEYS do
  if owner[k] then
    owner[k].write(k)
  end
end
return out
