-- What every fragment uses: cached functions, the time, the limits.
local call, try, unpack, type = redis.call, redis.pcall, struct.unpack, type
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

-- Milliseconds to live for a counter that is empty at `point`, at most 285 years.
local function ttl_ms(point)
  return ceil(min(max(point - now, 0), POINT_MAX) / 1000) + slack_ms
end
