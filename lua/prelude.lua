-- What every fragment uses: cached functions, the time, numbers.
local call, try, unpack = redis.call, redis.pcall, struct.unpack
local tonumber, type = tonumber, type
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local format, match, rep = string.format, string.match, string.rep

local UNITS_MAX = 4503599627370496 -- 2^52: the most units in a counter, so that sums stay below 2^53
local POINT_MAX = 9007199254740992 -- 2^53: doubles hold every integer up to here
local ENTRIES_MAX = 127 -- of a sorted set, with the base: 128 are still a listpack
local TOTAL_MAX = UNITS_MAX * 1.5 -- in a sorted set totals then start anew, long before 2^53

local PERIODS = 8 -- of a window: in each, a sorted set's time to live is set once, for any newest entry of that period
local ALLOWED, DENIED, TOO_LATE, NOT_OURS = 0, 1, 2, 3 -- a request's status in the reply
local SHADOW, QUOTA, QUOTA_SHADOW = 1, 2, 3 -- classes of charges, besides 0

-- The server's time in microseconds, read once. A given one (tests) has nothing to do with the server's clock, by which keys
-- expire: they then get an hour more.
local now, slack_ms = tonumber(ARGV[4]), 3600000
if not now then
  local time = call('TIME')
  now, slack_ms = time[1] * 1000000 + time[2], 1
end

-- A natural number as text. `%d` is twice as fast but need not be wider than 32 bits; Lua's own conversion rounds to 14 digits.
local function text(number)
  return format(number < 2147483648 and number >= 0 and '%d' or '%.0f', number)
end
