-- Token bucket (GCRA as a leaky bucket): a string "<debt in units>@<when it was right, in us>". The same doubles as in
-- src/limiter/token_bucket.rs, operation by operation.
local function token_bucket()
  -- One slot a key. `changed` is the drain once there is something to write.
  local debt, at, stored, changed = {}, {}, {}, {}
  local now_text = text(now)

  local function read(k)
    local value = try('GET', KEYS[k])
    if not value then
      debt[k], at[k] = 0, 0
      return true
    end
    if type(value) ~= 'string' then
      return false
    end
    local d, a = match(value, '^(%d+)@(%d+)$')
    d, a = tonumber(d), tonumber(a)
    if not (d and 0 < d and d <= UNITS_MAX and a <= POINT_MAX) then
      return false
    end
    debt[k], at[k], stored[k] = d, a, true
    return true
  end

  local function drained(elapsed, drain, most)
    return min(floor(elapsed * drain), most)
  end

  -- The shortest time in which `need` units drain, at most 2^53.
  local function time_to_drain(need, drain)
    local time = ceil(need / drain)
    if time >= POINT_MAX then
      return POINT_MAX
    end
    while time > 1 and drained(time - 1, drain, need) == need do
      time = time - 1
    end
    while drained(time, drain, need) < need do
      time = time + 1
    end
    return time
  end

  local function level(k, l)
    if not debt[k] and not read(k) then
      return nil
    end
    if now > at[k] then
      return debt[k] - drained(now - at[k], limits[l + 4], debt[k]), true
    end
    return debt[k], now == at[k]
  end

  -- Until at most `room` units are left of the content and `booked`. Booking counts the draining from now on; without it the
  -- time since the last write counts too.
  local function down_to(k, l, booked, room)
    local from, need = at[k], debt[k] - room
    if booked > 0 then
      from, need = max(from, now), min(level(k, l) + booked, UNITS_MAX) - room
    end
    if need <= 0 then
      return 0
    end
    -- In this order the sum is exact up to 2^53, the longest wait.
    return min(max(from - now + time_to_drain(need, limits[l + 4]), 0), POINT_MAX)
  end

  local function wait(k, l, booked, hits)
    local room = limits[l + 1] - hits * limits[l + 2]
    if room < 0 then -- more than the burst
      return limits[l + 3]
    end
    return down_to(k, l, booked, room)
  end

  local function empty(k, l, booked)
    return min(down_to(k, l, booked, 0), limits[l + 3])
  end

  local function charge(k, l, hits)
    debt[k] = min(level(k, l) + hits * limits[l + 2], UNITS_MAX)
    at[k], changed[k] = max(at[k], now), limits[l + 4]
  end

  local function refund(k, l, hits)
    debt[k] = max(level(k, l) - hits * limits[l + 2], 0)
    at[k], changed[k] = debt[k] > 0 and max(at[k], now) or 0, limits[l + 4]
  end

  local function write(k)
    local drain = changed[k]
    if not drain then
      return
    end
    if debt[k] > 0 then
      -- A microsecond more than the division says, for its rounding.
      local ttl = ttl_text(at[k] + min(ceil(debt[k] / drain), POINT_MAX) + 1)
      local at_text = at[k] == now and now_text or text(at[k])
      call('SET', KEYS[k], text(debt[k]) .. '@' .. at_text, 'PX', ttl)
    elseif stored[k] then
      call('DEL', KEYS[k])
    end
  end

  return { level = level, wait = wait, empty = empty, charge = charge, refund = refund, write = write }
end
