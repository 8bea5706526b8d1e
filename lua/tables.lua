-- What charges of several requests share: unpacked arguments, times. A call that is one consume does without: a function that captures
-- others costs it more than the few lines.

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

-- A stored score as a point in time.
local function point(score)
  return min(max(tonumber(score), 0), POINT_MAX)
end

-- Milliseconds from now until then, at most 285 years.
local function ms_until(time)
  return ceil(min(max(time - now, 0), POINT_MAX) / 1000) + slack_ms
end

local function period(score, window)
  return floor(score * PERIODS / window)
end

-- When the newest entry of any tick of that period has left.
local function period_ends(score, window)
  return (period(score, window) + 1) * window / PERIODS + window
end

-- `ms_until` as text, remembered by time: counters of one limit that are charged together end together.
local ttls = {}
local function ttl_text(time)
  local known = ttls[time]
  if not known then
    known = text(ms_until(time))
    ttls[time] = known
  end
  return known
end

-- What own_read.lua and own_book.lua printed last, since a number that Redis or `text` has to print costs nearly as much as a command: the
-- edge of a window of that size, the end of the tick of now by its length, the moment of a value, the time to live until an end.
local edge_of, edge
local tick, tick_ends, tick_ends_text
local moment, moment_text, last_end, own_ttl_text
