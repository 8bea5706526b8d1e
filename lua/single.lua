-- One consume on one key: what the driver does for such a call, at half the cost. The arguments and the reply are the same, and
-- tests hold the two equal. It stands alone.
local call, try, unpack, type, tonumber = redis.call, redis.pcall, struct.unpack, type, tonumber
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local format, match = string.format, string.match
local UNITS_MAX, POINT_MAX = 4503599627370496, 9007199254740992
local ALLOWED, DENIED, TOO_LATE, NOT_OURS = 0, 1, 2, 3
local ENTRIES_MAX = 127

local key = KEYS[1]
local not_after, _, flags, quota_limits, quota_over = unpack('<dHBII', ARGV[1])
local _, _, _, class, hits = unpack('<HHBBd', ARGV[2])
local algorithm, capacity, cost, W, pace = unpack('<Bdddd', ARGV[3])
local now, slack_ms = tonumber(ARGV[4]), 3600000
if not now then
  local time = call('TIME')
  now, slack_ms = time[1] * 1000000 + time[2], 1
end
if not_after > 0 and now > not_after then
  return { now, TOO_LATE }
end

-- Read: the units used, and of the state what booking needs. A sliding window's newest score is `at`, its newest total `debt`;
-- a bucket's time is `at`; a fixed window's start is `at`.
local used, at, debt, card, gone, first, plain = 0, 0, 0, 0, 0, nil, true
local units = hits * cost
if algorithm == 1 then
  card = try('ZCARD', key)
  if type(card) ~= 'number' or card == 1 then
    return { now, NOT_OURS, 1 }
  end
  if card > 0 then
    local head = call('ZRANGE', key, '0', '1', 'WITHSCORES')
    local base, newest = head[1], head[3]
    first = tonumber(head[4])
    at = first
    if card > 2 then
      local tail = call('ZRANGE', key, '-1', '-1', 'WITHSCORES')
      newest, at = tail[1], tonumber(tail[2])
    end
    if first <= now - W then
      if at <= now - W then
        gone, base = card - 1, newest
      else
        gone = call('ZCOUNT', key, '-inf', now - W) - 1
        base = call('ZRANGE', key, gone, gone)[1]
      end
    end
    base, debt = tonumber(base), tonumber(newest)
    if not (base and debt and 0 <= base and base <= debt and debt <= POINT_MAX and at <= POINT_MAX) then
      return { now, NOT_OURS, 1 }
    end
    used = debt - base
  end
elseif algorithm == 2 or algorithm == 3 then
  local text = try('GET', key)
  if text then
    if type(text) ~= 'string' then
      return { now, NOT_OURS, 1 }
    end
    if algorithm == 2 then
      at, debt = match(text, '^(%d+) (%d+)$')
    else
      debt, at = match(text, '^(%d+)@(%d+)$')
    end
    at, debt = tonumber(at), tonumber(debt)
    if not (debt and at <= POINT_MAX and 0 < debt and debt <= UNITS_MAX) then
      return { now, NOT_OURS, 1 }
    end
  end
  if algorithm == 2 then
    local start = now - now % W
    if at > start then
      plain, used = false, debt
    else
      used, at = at == start and debt or 0, start
    end
  elseif now > at then
    used = debt - min(floor((now - at) * pace), debt)
  else
    plain, used = now == at, debt
  end
else
  return { now, NOT_OURS, 1 }
end

-- Decide.
local over = used + units > capacity
local enforced = over and class == 0
if class >= 2 then
  quota_limits = quota_limits + 1
  if over and class == 2 then
    quota_over = quota_over + 1
  end
end
local denied = flags < 2 and (flags == 1 or enforced or (quota_limits > 0 and quota_over >= quota_limits))
local status = denied and DENIED or ALLOWED
local booked = not over and not denied and units or 0

-- The wait: until the hits fit, or until the counter is empty. Not shown when it follows from the units.
local wait
if booked == 0 or not plain then
  if over and units > capacity and algorithm ~= 2 then
    wait = W
  elseif algorithm == 1 then
    if not over then
      wait = used > 0 and min(at + W - now, W) or 0
    else
      local must_leave = debt + units - capacity
      local low, high = gone + 1, card - 1
      while low < high do
        local middle = low == gone + 1 and low or floor((low + high) / 2)
        if (tonumber(call('ZRANGE', key, middle, middle)[1]) or 0) >= must_leave then
          high = middle
        else
          low = middle + 1
        end
      end
      if low == 1 then
        at = first
      elseif low < card - 1 then
        at = tonumber(call('ZRANGE', key, low, low, 'WITHSCORES')[2])
      end
      wait = max(at + W - now, 1)
    end
  elseif algorithm == 2 then
    wait = min(at + W - now, W)
  else
    local from, need = at, debt
    if booked > 0 then
      from, need = max(at, now), min(used + booked, UNITS_MAX)
    elseif over then
      need = debt - (capacity - units)
    end
    wait = 0
    if need > 0 then
      local time = ceil(need / pace)
      if time >= POINT_MAX then
        time = POINT_MAX
      else
        while time > 1 and floor((time - 1) * pace) >= need do
          time = time - 1
        end
        while floor(time * pace) < need do
          time = time + 1
        end
      end
      wait = min(max(from - now + time, 0), POINT_MAX)
    end
    if not over then
      wait = min(wait, W)
    end
  end
end

-- Write.
if booked > 0 then
  local empty_at
  if algorithm == 1 then
    local to = max(ceil(now / pace) * pace, at)
    if card == 0 then
      call('ZADD', key, '0', '0', to, format('%.0f', hits))
    else
      if gone > 0 then
        call('ZREMRANGEBYRANK', key, '0', gone - 1)
      end
      if debt + hits > UNITS_MAX * 1.5 then -- totals start anew, long before 2^53
        local all, less = call('ZRANGE', key, '0', '-1', 'WITHSCORES'), debt - used
        call('DEL', key)
        for i = 1, #all, 2 do
          call('ZADD', key, all[i + 1], format('%.0f', all[i] - less))
        end
        call('PEXPIRE', key, ceil(max(at + W - now, 0) / 1000) + slack_ms)
        debt = used
      end
      if to == at or card - gone >= ENTRIES_MAX then
        call('ZREM', key, format('%.0f', debt))
      end
      call('ZADD', key, to, format('%.0f', debt + hits))
    end
    if to ~= at then
      call('PEXPIRE', key, ceil((to + W - now) / 1000) + slack_ms)
    end
  elseif algorithm == 2 then
    local ttl_ms = ceil((at + W - now) / 1000) + slack_ms
    call('SET', key, format('%.0f %.0f', at, used + hits), 'PX', ttl_ms)
  else
    at = max(at, now)
    local ttl_ms = ceil(min(at - now + (used + units) / pace + 1, POINT_MAX) / 1000) + slack_ms
    call('SET', key, format('%.0f@%.0f', used + units, at), 'PX', ttl_ms)
  end
end

if wait then
  return { now, status, -1 - used, wait }
end
return { now, status, used }
