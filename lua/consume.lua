-- One consume on a key that nothing else in the call touches: read, decided and written at once, without the tables that charges of
-- one key share. Equals what the driver does for others, and tests hold the two equal.
--
-- The body of a function in the batch, and the whole of a call that is but this: a function with all that it captures costs such a
-- call a tenth more. Known before: `key`; `algorithm`, `capacity`, `cost`, `W` and `pace` of the limit; `class` and `hits` of the
-- charge; `flags`, `quota_limits` and `quota_over` of the request. Known after: the `status` of a request that is this consume alone,
-- the units `used` before, and the `wait` unless it follows from them.
local status, used, wait = NOT_OURS, 0, nil
repeat
  -- Read: the units used, and what booking needs. A fixed window: `debt` hits since `at`. A bucket: `debt` units at `at`. A sliding
  -- window: `debt` is the newest total, `newest` its score as text, `gone` the entries below the base that have left.
  local at, debt, gone, newest, plain = 0, 0, 0, nil, true
  local units = hits * cost
  if algorithm == 1 then
    local tail = try('ZRANGE', key, '-1', '-1', 'WITHSCORES')
    if tail.err then
      break
    end
    if tail[1] then
      local outside = call('ZRANGEBYSCORE', key, '-inf', now - W)
      gone = max(#outside - 1, 0)
      local base = tonumber(outside[gone + 1] or call('ZRANGE', key, '0', '0')[1])
      debt, newest = tonumber(tail[1]), tail[2]
      if not (base and debt and 0 <= base and 0 < debt and (base < debt or gone > 0 and base == debt) and debt <= POINT_MAX) then
        break
      end
      used = debt - base
    end
  elseif algorithm == 2 or algorithm == 3 then
    local value = try('GET', key)
    if value then
      if type(value) ~= 'string' then
        break
      end
      if algorithm == 2 then
        at, debt = match(value, '^(%d+) (%d+)$')
      else
        debt, at = match(value, '^(%d+)@(%d+)$')
      end
      at, debt = tonumber(at), tonumber(debt)
      if not (debt and at <= POINT_MAX and 0 < debt and debt <= UNITS_MAX) then
        break
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
    break
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
  status = denied and DENIED or ALLOWED
  local booked = not over and not denied and units or 0

  -- The wait: until the hits fit, or until the counter is empty. Not shown when it follows from the units.
  if booked == 0 or not plain then
    if over and units > capacity and algorithm ~= 2 then
      wait = W
    elseif algorithm == 1 then
      if over or used > 0 then
        local score = newest
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
          score = call('ZRANGE', key, low, low, 'WITHSCORES')[2]
        end
        wait = min(max(tonumber(score), 0), POINT_MAX) + W - now
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
    local value, ends -- of a string, and when the key may go
    if algorithm == 1 then
      if tick ~= pace then
        tick, tick_ends = pace, ceil(now / pace) * pace
        tick_ends_text = text(tick_ends)
      end
      local to, to_text, merges, lives_on = tick_ends, tick_ends_text, false, false
      if debt == 0 then
        call('ZADD', key, '0', '0', to_text, text(hits))
      else
        if newest == to_text then
          merges, lives_on = true, true
        else
          local before = min(max(tonumber(newest), 0), POINT_MAX)
          if before >= to then
            merges, to, to_text = true, before, text(before)
          end
          lives_on = floor(before * PERIODS / W) == floor(to * PERIODS / W)
        end
        if gone > 0 then
          call('ZREMRANGEBYRANK', key, '0', gone - 1)
        end
        if debt + hits > TOTAL_MAX then -- totals start anew, long before 2^53
          local all, less = call('ZRANGE', key, '0', '-1', 'WITHSCORES'), debt - used
          call('DEL', key)
          for i = 1, #all, 2 do
            call('ZADD', key, all[i + 1], text(all[i] - less))
          end
          debt, lives_on = used, false
        end
        if merges or (used >= ENTRIES_MAX - 1 and call('ZCARD', key) >= ENTRIES_MAX) then
          call('ZREMRANGEBYRANK', key, '-1', '-1')
        end
        call('ZADD', key, to_text, text(debt + hits))
      end
      ends = not lives_on and (floor(to * PERIODS / W) + 1) * W / PERIODS + W
    elseif algorithm == 2 then
      value, ends = text(at) .. ' ' .. text(used + hits), at + W
    else
      at = max(at, now)
      value, ends = text(used + units) .. '@' .. text(at), at + ceil((used + units) / pace) + 1
    end
    if ends then
      local ttl_ms = ceil(min(max(ends - now, 0), POINT_MAX) / 1000) + slack_ms
      if value then
        call('SET', key, value, 'PX', ttl_ms)
      else
        call('PEXPIRE', key, ttl_ms)
      end
    end
  end
until true
