-- Sliding window: a sorted set of running totals. Score = when the entry starts to count (us, the end of its tick), member =
-- total up to and with it. Rank 0 is always the base: never a charge, its total is what has left the window.
-- used = newest total - base. Equals src/limiter/sliding_window.rs, entry by entry.
local function sliding_window()
  local ENTRIES_MAX = 127 -- with the base; a set of 128 is still a listpack
  local TOTAL_MAX = UNITS_MAX * 1.5
  -- One slot a key. What is stored: `card` entries, of which `left` below the base have left the window.
  local window, card, left, base, total, newest = {}, {}, {}, {}, {}, {}
  -- The oldest entry in the window, if reading the ends has shown it.
  local oldest, oldest_total = {}, {}
  -- What is booked but not yet written: hits, and the score they get.
  local added, score = {}, {}

  local function absent(k, W)
    window[k], card[k], left[k], base[k], total[k], newest[k], added[k] = W, 0, 0, 0, 0, 0, 0
    oldest[k] = nil
    return true
  end

  local function read(k, W)
    local key = KEYS[k]
    local head = try('ZRANGE', key, '0', '1', 'WITHSCORES')
    window[k] = nil
    if head.err then
      return false
    end
    if not head[1] then
      return absent(k, W)
    end
    local tail = call('ZRANGE', key, '-1', '-1', 'WITHSCORES')
    local lowest, t, last, first = tonumber(head[1]), tonumber(tail[1]), tonumber(tail[2]), tonumber(head[4])
    local b, edge, gone, first_total = lowest, now - W, 0, tonumber(head[3])
    if not (first and b and t and 0 <= b and b < t and t <= POINT_MAX and last <= POINT_MAX) then
      return false
    end
    card[k] = nil -- counted when needed
    if first <= edge then -- the newest entry that has left is the base
      if last <= edge then
        card[k] = call('ZCARD', key)
        gone, b, first = card[k] - 1, t, nil
      else
        gone = 1
        local next = call('ZRANGE', key, '2', '2', 'WITHSCORES') -- there is one, since the newest has not left
        b, first, first_total = first_total, tonumber(next[2]), tonumber(next[1])
        if first <= edge then
          gone = call('ZCOUNT', key, '-inf', edge) - 1
          local two = call('ZRANGE', key, gone, gone + 1, 'WITHSCORES')
          b, first, first_total = tonumber(two[1]), tonumber(two[4]), tonumber(two[3])
        end
      end
    end
    window[k], left[k], base[k], total[k], newest[k], added[k] = W, gone, b, t, last, 0
    oldest[k], oldest_total[k] = first, first_total
    return true
  end

  local function count(k)
    local n = card[k]
    if not n then
      n = call('ZCARD', KEYS[k])
      card[k] = n
    end
    return n
  end

  -- Each entry above the base has one hit at least, so few hits are few entries and need no count.
  local function is_full(k)
    return total[k] - base[k] >= ENTRIES_MAX - 1 and count(k) - left[k] >= ENTRIES_MAX
  end

  -- Sets the time to live when the newest score enters another quarter of the window: until then the one set before is enough.
  local function prolong(k, was, to)
    local quarter = window[k] / 4
    local number = floor(to / quarter)
    if was < number * quarter then
      call('PEXPIRE', KEYS[k], ttl_ms((number + 1) * quarter + window[k]))
    end
  end

  local function restart(k) -- totals start anew, long before 2^53
    local key, less = KEYS[k], base[k]
    local all = call('ZRANGE', key, left[k], '-1', 'WITHSCORES')
    call('DEL', key)
    for i = 1, #all, 2 do
      call('ZADD', key, all[i + 1], format('%.0f', all[i] - less))
    end
    prolong(k, -1, newest[k])
    card[k], left[k], base[k], total[k], oldest[k] = #all / 2, 0, 0, total[k] - less, nil
  end

  local function write(k)
    local hits = added[k]
    if hits == 0 then
      return
    end
    local key, to, was = KEYS[k], score[k], newest[k]
    if card[k] == 0 then
      call('ZADD', key, '0', '0', to, format('%.0f', hits))
      card[k], oldest[k], oldest_total[k], was = 2, to, hits, -1
    else
      local n = card[k]
      if left[k] > 0 then
        call('ZREMRANGEBYRANK', key, '0', left[k] - 1)
        n = n and n - left[k]
        card[k], left[k] = n, 0
      end
      if to == was or is_full(k) then -- one entry a tick; a full set lets the newest take it
        call('ZREM', key, format('%.0f', total[k]))
        oldest[k] = nil
      else
        card[k] = n and n + 1
      end
      call('ZADD', key, to, format('%.0f', total[k] + hits))
    end
    prolong(k, was, to)
    total[k], newest[k], added[k] = total[k] + hits, to, 0
  end

  local function level(k, l)
    local W = limits[l + 3]
    if window[k] ~= W then
      if window[k] then
        write(k)
      end
      if not read(k, W) then
        return nil
      end
    end
    return total[k] + added[k] - base[k], true
  end

  -- The rank of the first stored entry in the window with at least this total.
  local function rank_of(k, at_least)
    local key, low, high = KEYS[k], left[k] + 1, count(k) - 1
    while low < high do
      local middle = floor((low + high) / 2)
      if (tonumber(call('ZRANGE', key, middle, middle)[1]) or 0) >= at_least then
        high = middle
      else
        low = middle + 1
      end
    end
    return low
  end

  local function wait(k, l, booked, hits)
    local capacity, W = limits[l + 1], limits[l + 3]
    local all = total[k] + added[k]
    local must_leave = all + booked + hits - capacity -- an entry of at least this total has to leave
    if hits > capacity or must_leave > all then
      return W
    end
    local from
    if must_leave > total[k] then
      from = score[k]
    elseif oldest[k] and oldest_total[k] >= must_leave and oldest[k] < newest[k] then
      from = oldest[k]
    else
      local rank = rank_of(k, must_leave)
      if rank < count(k) - 1 then
        from = tonumber(call('ZRANGE', KEYS[k], rank, rank, 'WITHSCORES')[2])
      elseif added[k] > 0 and is_full(k) then
        from = score[k] -- the newest will take the booked hits and their score
      else
        from = newest[k]
      end
    end
    return max(from + W - now, 1)
  end

  local function empty(k, l, booked)
    local W = limits[l + 3]
    if booked > 0 then
      return W
    end
    if level(k, l) == 0 then
      return 0
    end
    return min((added[k] > 0 and score[k] or newest[k]) + W - now, W)
  end

  local ends = {} -- of the tick of now, by limit
  local function charge(k, l, hits)
    local used = level(k, l)
    hits = min(hits, UNITS_MAX - used)
    if hits <= 0 then
      return
    end
    local to = ends[l]
    if not to then
      local tick = limits[l + 4]
      to = ceil(now / tick) * tick
      ends[l] = to
    end
    -- Only the new score is raised to the newest, never `now`: judging expiry by a later time would forget hits.
    if added[k] > 0 then
      to = max(to, score[k])
      if to ~= score[k] then
        write(k)
      end
    end
    if total[k] + added[k] + hits > TOTAL_MAX then
      write(k)
      restart(k)
    end
    added[k], score[k] = added[k] + hits, max(to, newest[k])
  end

  local function refund(k, l, hits) -- from the newest
    local key = KEYS[k]
    write(k)
    local to = max(total[k] - hits, base[k])
    if to == base[k] then
      call('DEL', key)
      return absent(k, window[k])
    end
    local last = count(k) - 1
    if (tonumber(call('ZRANGE', key, last - 1, last - 1)[1]) or 0) >= to then
      last = rank_of(k, to)
    end
    local entry = call('ZRANGE', key, last, last, 'WITHSCORES')
    call('ZREMRANGEBYRANK', key, last, '-1') -- the base stays, and with it the key and its time to live
    call('ZADD', key, entry[2], format('%.0f', to))
    card[k], total[k], newest[k], oldest[k] = last + 1, to, tonumber(entry[2]), nil
  end

  return { level = level, wait = wait, empty = empty, charge = charge, refund = refund, write = write }
end
