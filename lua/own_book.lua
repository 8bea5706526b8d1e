-- Ends a consume on what own_read.lua has read: its wait, and what it books. Known before: all of that; the `capacity` of its limit;
-- `hits` of the charge, the `units` that they cost, whether those are `over`, and the units `booked`: 0 if they are, or their request is
-- denied. Known after: the `wait`, unless it follows from the units.
local wait = false
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
  else
    if algorithm == 3 then
      at = max(at, now)
    end
    if moment ~= at then
      moment, moment_text = at, text(at)
    end
    if algorithm == 2 then
      value, ends = moment_text .. ' ' .. text(used + hits), at + W
    else
      value, ends = text(used + units) .. '@' .. moment_text, at + ceil((used + units) / pace) + 1
    end
  end
  if ends then
    if last_end ~= ends then
      last_end, own_ttl_text = ends, text(ceil(min(max(ends - now, 0), POINT_MAX) / 1000) + slack_ms)
    end
    if value then
      call('SET', key, value, 'PX', own_ttl_text)
    else
      call('PEXPIRE', key, own_ttl_text)
    end
  end
end
