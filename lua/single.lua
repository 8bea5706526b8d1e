-- One consume on one key: what the driver does for such a call, without the closures and tables that several charges need. The
-- arguments and the reply are the same (README.md), and tests hold the two equal.
local call, try, unpack, type, tonumber = redis.call, redis.pcall, struct.unpack, type, tonumber
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local format, match = string.format, string.match
local UNITS_MAX, POINT_MAX = 4503599627370496, 9007199254740992
local ALLOWED, DENIED, TOO_LATE, NOT_OURS = 0, 1, 2, 3
local ENTRIES_MAX = 127

local function text(number)
  return format(number < 2147483648 and '%d' or '%.0f', number)
end

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

-- Read: the units used, and what booking needs. A fixed window: `debt` hits since `at`. A bucket: `debt` units at `at`. A sliding
-- window: `debt` is the newest total, `gone` the entries below the base that have left.
local used, at, debt, gone, plain = 0, 0, 0, 0, true
local units = hits * cost
if algorithm == 1 then
  local tail = try('ZRANGE', key, '-1', '-1')
  if tail.err then
    return { now, NOT_OURS, 1 }
  end
  if tail[1] then
    gone = max(call('ZCOUNT', key, '-inf', format('%.0f', now - W)) - 1, 0)
    local base = tonumber(call('ZRANGE', key, gone, gone)[1])
    debt = tonumber(tail[1])
    if not (base and debt and 0 <= base and 0 < debt and (base < debt or gone > 0 and base == debt) and debt <= POINT_MAX) then
      return { now, NOT_OURS, 1 }
    end
    used = debt - base
  end
elseif algorithm == 2 or algorithm == 3 then
  local value = try('GET', key)
  if value then
    if type(value) ~= 'string' then
      return { now, NOT_OURS, 1 }
    end
    if algorithm == 2 then
      at, debt = match(value, '^(%d+) (%d+)$')
    else
      debt, at = match(value, '^(%d+)@(%d+)$')
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
    if over or used > 0 then
      local rank = '-1'
      if over then -- an entry of at least this total has to leave
        local must_leave = debt + units - capacity
        local low, high = gone + 1, nil
        local middle = low
        while not high or low < high do
          if (tonumber(call('ZRANGE', key, middle, middle)[1]) or 0) >= must_leave then
            high = middle
          else
            low, high = middle + 1, high or call('ZCARD', key) - 1
          end
          middle = floor((low + high) / 2)
        end
        rank = low
      end
      local score = tonumber(call('ZRANGE', key, rank, rank, 'WITHSCORES')[2])
      wait = min(max(score, 0), POINT_MAX) + W - now
    end
    wait = over and max(wait, 1) or min(wait or 0, W)
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
  if algorithm == 1 then
    local to, merges = ceil(now / pace) * pace, false
    local to_text = format('%.0f', to)
    local ttl_ms = ceil((to + W - now) / 1000) + slack_ms
    if debt == 0 then
      call('ZADD', key, '0', '0', to_text, text(hits))
    else
      if call('ZCOUNT', key, to_text, '+inf') > 0 then
        merges, to_text = true, call('ZRANGE', key, '-1', '-1', 'WITHSCORES')[2]
        ttl_ms = ceil(max(to_text + W - now, 0) / 1000) + slack_ms
      end
      if gone > 0 then
        call('ZREMRANGEBYRANK', key, '0', gone - 1)
      end
      if debt + hits > UNITS_MAX * 1.5 then -- totals start anew, long before 2^53
        local all, less = call('ZRANGE', key, '0', '-1', 'WITHSCORES'), debt - used
        call('DEL', key)
        for i = 1, #all, 2 do
          call('ZADD', key, all[i + 1], text(all[i] - less))
        end
        debt = used
        call('PEXPIRE', key, ttl_ms)
      end
      if merges or (used >= ENTRIES_MAX - 1 and call('ZCARD', key) >= ENTRIES_MAX) then
        call('ZREM', key, text(debt))
      end
      call('ZADD', key, to_text, text(debt + hits))
    end
    if not merges then
      call('PEXPIRE', key, ttl_ms)
    end
  elseif algorithm == 2 then
    local ttl_ms = ceil((at + W - now) / 1000) + slack_ms
    call('SET', key, text(at) .. ' ' .. text(used + hits), 'PX', ttl_ms)
  else
    at = max(at, now)
    local ttl_ms = ceil(min(at - now + ceil((used + units) / pace) + 1, POINT_MAX) / 1000) + slack_ms
    call('SET', key, text(used + units) .. '@' .. text(at), 'PX', ttl_ms)
  end
end

if wait then
  return { now, status, -1 - used, wait }
end
return { now, status, used }
