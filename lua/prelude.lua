-- What every fragment uses: cached functions, the time, the limits.
local call, try, unpack = redis.call, redis.pcall, struct.unpack
local tonumber, type = tonumber, type
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local format, match, rep = string.format, string.match, string.rep

local UNITS_MAX = 4503599627370496 -- 2^52: the most units in a counter, so that sums stay below 2^53
local POINT_MAX = 9007199254740992 -- 2^53: doubles hold every integer up to here

-- The server's time in microseconds, read once. A given one (tests) has nothing to do with the server's clock, by which keys
-- expire: they then get an hour more.
local now, slack_ms = tonumber(ARGV[4]), 3600000
if not now then
  local time = call('TIME')
  now, slack_ms = time[1] * 1000000 + time[2], 1
end

-- A flat array of the rows in a packed text. In chunks, because all values of one unpack lie on the C stack (8,000 slots).
local function rows(row, bytes, text)
  local count = #text / bytes
  if count <= 1000 then
    return { unpack('<' .. rep(row, count), text) }
  end
  local all, length = {}, 0
  for position = 1, #text, bytes do
    local values = { unpack('<' .. row, text, position) }
    for i = 1, #values - 1 do
      all[length + i] = values[i]
    end
    length = length + #values - 1
  end
  return all
end

-- Limits: from its index `l` on, algorithm, capacity and cost of a hit in units, window in us, pace (tick in us, or drain).
local limits = rows('Bdddd', 33, ARGV[3])

-- A natural number as text. `%d` is twice as fast but need not be wider than 32 bits; Lua's own conversion rounds to 14 digits.
local function text(number)
  return format(number < 2147483648 and number >= 0 and '%d' or '%.0f', number)
end

-- Milliseconds to live for a counter that is empty at `point`, at most 285 years. Results are remembered by point:
-- counters of one limit that are charged at the same time end at the same time.
local ttls = {}
local function ttl_text(point)
  local known = ttls[point]
  if not known then
    known = text(ceil(min(max(point - now, 0), POINT_MAX) / 1000) + slack_ms)
    ttls[point] = known
  end
  return known
end
