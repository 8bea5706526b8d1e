-- Books hits ahead, for an instance that spends them before their tick or window ends: as many of those wanted as fit into its part
-- of the room, at times none. Equals `lease` in src/limiter/state.rs.
local ALGORITHMS = { sliding_window, fixed_window }
local FOREIGN, LATE = -1, -2 -- in place of the units

local not_after = unpack('<d', ARGV[1])
local wanted, parts = unpack('<dd', ARGV[2])
if not_after > 0 and now > not_after then
  return { now, LATE }
end
local number, capacity = limits[1], limits[2]
local algorithm = ALGORITHMS[number]()
local used = algorithm.level(1, 1)
if not used then
  return { now, FOREIGN }
end
local granted = max(min(wanted, floor((capacity - used) / parts)), 0)
if granted > 0 then
  algorithm.charge(1, 1, granted)
  algorithm.write(1)
  if number == 1 then -- refunds leave alone what may not be spent yet
    local tick = limits[5]
    local till = ceil(now / tick) * tick
    if till > (tonumber(try('GET', KEYS[2])) or 0) then
      call('SET', KEYS[2], text(till), 'PX', ttl_text(till))
    end
  end
end
return { now, used, granted }
