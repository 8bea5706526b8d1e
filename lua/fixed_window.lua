-- Fixed window: a string "<start in us> <count>". Equals src/limiter/fixed_window.rs.
local function fixed_window()
  -- One slot a key. `changed` is the window's length once there is something to write.
  local start, count, stored, changed = {}, {}, {}, {}
  local starts = {} -- as texts, by number: most counters have the same

  local function read(k)
    local value = try('GET', KEYS[k])
    if not value then
      start[k], count[k] = 0, 0
      return true
    end
    if type(value) ~= 'string' then
      return false
    end
    local s, c = match(value, '^(%d+) (%d+)$')
    s, c = tonumber(s), tonumber(c)
    if not (c and s <= POINT_MAX and 0 < c and c <= UNITS_MAX) then
      return false
    end
    start[k], count[k], stored[k] = s, c, true
    return true
  end

  -- The start of the window that counts, and whether it is that of `now`: a clock that stepped back into an earlier window
  -- goes on in the later one.
  local function current(k, W)
    local from = now - now % W
    if count[k] > 0 and start[k] > from then
      return start[k], false
    end
    return from, true
  end

  local function level(k, l)
    if not count[k] and not read(k) then
      return nil
    end
    local from, plain = current(k, limits[l + 3])
    return start[k] == from and count[k] or 0, plain
  end

  local function empty(k, l)
    local W = limits[l + 3]
    return min(current(k, W) + W - now, W)
  end

  local function charge(k, l, hits)
    local used, W = level(k, l), limits[l + 3]
    start[k] = current(k, W)
    count[k], changed[k] = min(used + hits, UNITS_MAX), W
  end

  local function refund(k, l, hits)
    count[k], changed[k] = max(count[k] - hits, 0), limits[l + 3]
  end

  local function write(k)
    if not changed[k] then
      return
    end
    if count[k] > 0 then
      local from = starts[start[k]] or text(start[k])
      starts[start[k]] = from
      call('SET', KEYS[k], from .. ' ' .. text(count[k]), 'PX', ttl_text(start[k] + changed[k]))
    elseif stored[k] then
      call('DEL', KEYS[k])
    end
  end

  return { level = level, wait = empty, empty = empty, charge = charge, refund = refund, write = write }
end
