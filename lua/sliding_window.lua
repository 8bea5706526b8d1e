-- Sliding window: a sorted set of running totals. Score = when the entry starts to count (us, the end of its tick), member =
-- total up to and with it. Rank 0 is always the base: never a charge, its total is what has left the window.
-- used = newest total - base. Equals src/limiter/sliding_window.rs, entry by entry.
--
-- A command costs more than anything that it could save, so the newest entry is read with its score, and the base with the count of
-- those that have left.

-- The totals in a reply of ZRANGE as numbers, or nil if one is none: nothing is written before all are known.
local function numbers(reply, step)
  for i = 1, #reply, step do
    reply[i] = tonumber(reply[i])
    if not reply[i] then
      return nil
    end
  end
  return reply
end

-- Takes hits from the entry of this rank, and what that does not hold from older ones above the base; newer ones stay. The base
-- stays, or the key goes; so the time to live stays. False if the key holds something else.
local function take_from(key, base, place, hits)
  local totals = numbers(call('ZRANGE', key, base, place), 1)
  local newer = numbers(call('ZRANGE', key, place + 1, '-1', 'WITHSCORES'), 2)
  if not (totals and newer) then
    return false
  end
  local less = min(hits, totals[#totals] - totals[1])
  if less <= 0 then
    return false
  end
  local target, last = totals[#totals] - less, 1
  while totals[last] < target do
    last = last + 1
  end
  if last == 1 and #newer == 0 then
    call('DEL', key)
    return
  end
  local first = base + last
  local cut
  if totals[last] > target then -- a part of it stays
    first = first - 1
    cut = call('ZRANGE', key, first, first, 'WITHSCORES')[2]
  end
  call('ZREMRANGEBYRANK', key, first, '-1')
  if cut then
    call('ZADD', key, cut, text(target))
  end
  for i = 1, #newer, 2 do
    call('ZADD', key, newer[i + 1], text(newer[i] - less))
  end
end

local function sliding_window()
  -- One slot a key. What is stored: for this window, `left` entries below the base have left it. The newest entry's total, and its
  -- score as text and, once it is known, as number.
  local window, left, base, total, newest_text, newest = {}, {}, {}, {}, {}, {}
  local oldest, oldest_total = {}, {} -- the oldest stored entry in the window, once a denial has asked for it
  -- What is booked but not yet written: hits, their score as number and text, and whether the newest entry has that score.
  local added, score, score_text, merges = {}, {}, {}, {}
  -- By limit: the end of the tick of now, as number and text.
  local ends, ends_text = {}, {}
  local edges = {} -- by window: where it begins

  local function absent(k, W)
    window[k], left[k], base[k], total[k], added[k], oldest[k] = W, 0, 0, 0, 0, nil
    newest_text[k], newest[k] = nil, nil
    return true
  end

  local function read(k, W)
    local key = KEYS[k]
    local tail = try('ZRANGE', key, '-1', '-1', 'WITHSCORES')
    window[k] = nil
    if tail.err then
      return false
    end
    if not tail[1] then
      return absent(k, W)
    end
    local edge = edges[W]
    if not edge then
      edge = text(now - W)
      edges[W] = edge
    end
    -- The newest entry that has left is the base; after a step back of the clock not even the base need have left.
    local outside = call('ZRANGEBYSCORE', key, '-inf', edge)
    local gone = max(#outside - 1, 0)
    local b, t = tonumber(outside[gone + 1] or call('ZRANGE', key, '0', '0')[1]), tonumber(tail[1])
    if not (b and t and 0 <= b and 0 < t and (b < t or gone > 0 and b == t) and t <= POINT_MAX) then
      return false
    end
    window[k], left[k], base[k], total[k], added[k], oldest[k] = W, gone, b, t, 0, nil
    newest_text[k], newest[k] = tail[2], nil
    return true
  end

  local function newest_at(k)
    newest[k] = newest[k] or point(newest_text[k])
    return newest[k]
  end

  -- Sets when the key ends: once its newest entry has left, a period later at most. Entries of the same period need not set it.
  local function expire(key, W, score)
    call('PEXPIRE', key, ttl_text(period_ends(score, W)))
  end

  -- Each entry above the base has one hit at least, so few hits are few entries and need no count.
  local function is_full(k)
    return total[k] - base[k] >= ENTRIES_MAX - 1 and call('ZCARD', KEYS[k]) - left[k] >= ENTRIES_MAX
  end

  local function restart(k) -- totals start anew, long before 2^53
    local key, less = KEYS[k], base[k]
    local all = call('ZRANGE', key, left[k], '-1', 'WITHSCORES')
    call('DEL', key)
    for i = 1, #all, 2 do
      call('ZADD', key, all[i + 1], text(all[i] - less))
    end
    expire(key, window[k], newest_at(k))
    left[k], base[k], total[k], oldest[k] = 0, 0, total[k] - less, nil
  end

  local function write(k)
    local hits = added[k]
    if hits == 0 then
      return
    end
    local key, was, to, W = KEYS[k], total[k], score[k], window[k]
    local now_total = was + hits
    if was == 0 then
      call('ZADD', key, '0', '0', score_text[k], text(now_total))
      expire(key, W, to)
    else
      if left[k] > 0 then
        call('ZREMRANGEBYRANK', key, '0', left[k] - 1)
        left[k] = 0
      end
      if merges[k] or is_full(k) then -- one entry a tick; a full set lets the newest take it
        call('ZREMRANGEBYRANK', key, '-1', '-1')
      end
      call('ZADD', key, score_text[k], text(now_total))
      if period(to, W) ~= period(newest_at(k), W) then
        expire(key, W, to)
      end
    end
    total[k], added[k], newest_text[k], newest[k] = now_total, 0, score_text[k], to
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

  -- The rank of the first stored entry in the window with at least this total, and whether it is the newest.
  local function rank_of(k, at_least)
    local key = KEYS[k]
    local last = call('ZCARD', key) - 1
    local low, high = left[k] + 1, last
    while low < high do
      local middle = floor((low + high) / 2)
      if (tonumber(call('ZRANGE', key, middle, middle)[1]) or 0) >= at_least then
        high = middle
      else
        low = middle + 1
      end
    end
    return low, low == last
  end

  -- The score of that entry. Mostly it is the oldest.
  local function score_of(k, at_least)
    if not oldest[k] then
      local entry = call('ZRANGE', KEYS[k], left[k] + 1, left[k] + 1, 'WITHSCORES')
      oldest_total[k], oldest[k] = tonumber(entry[1]) or 0, tonumber(entry[2])
    end
    if oldest_total[k] >= at_least then
      return oldest[k]
    end
    local rank, is_newest = rank_of(k, at_least)
    if is_newest and added[k] > 0 and is_full(k) then
      return score[k] -- the newest will take the booked hits and their score
    end
    return point(call('ZRANGE', KEYS[k], rank, rank, 'WITHSCORES')[2])
  end

  local function wait(k, l, booked, hits)
    local capacity, W = limits[l + 1], limits[l + 3]
    local all = total[k] + added[k]
    local must_leave = all + booked + hits - capacity -- an entry of at least this total has to leave
    if hits > capacity or must_leave > all then
      return W
    end
    local from = must_leave > total[k] and score[k] or score_of(k, must_leave)
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
    return min((added[k] > 0 and score[k] or newest_at(k)) + W - now, W)
  end

  local function tick_end(l)
    local tick = limits[l + 4]
    local to = ceil(now / tick) * tick
    ends[l], ends_text[l] = to, text(to)
    return to
  end

  local function charge(k, l, hits)
    hits = min(hits, UNITS_MAX - level(k, l))
    if hits <= 0 then
      return
    end
    local to = ends[l] or tick_end(l)
    if added[k] > 0 and to > score[k] then
      write(k)
    end
    if total[k] + added[k] + hits > TOTAL_MAX then
      write(k)
      restart(k)
    end
    if added[k] == 0 then
      score[k], score_text[k], merges[k] = to, ends_text[l], false
      -- Only the new score is raised to the newest, never `now`: judging expiry by a later time would forget hits.
      if total[k] > 0 then
        if newest_text[k] == score_text[k] then
          merges[k], newest[k] = true, to
        elseif newest_at(k) >= to then
          merges[k], score[k], score_text[k] = true, newest[k], text(newest[k])
        end
      end
    end
    added[k] = added[k] + hits
  end

  local function refund(k, l, hits) -- from the newest
    local key = KEYS[k]
    write(k)
    -- While hits are booked ahead (lease.lua), those of ticks that have not ended may be spent later than now: they stay.
    local ahead = tonumber(try('GET', key .. ':l'))
    if ahead and ahead > now then
      local place = call('ZCOUNT', key, '-inf', text(now)) - 1
      if place > left[k] then
        take_from(key, left[k], place, hits)
        window[k] = nil -- to be read anew
      end
      return
    end
    local to = max(total[k] - hits, base[k])
    if to == base[k] then
      call('DEL', key)
      return absent(k, window[k])
    end
    local rank = rank_of(k, to)
    local entry = call('ZRANGE', key, rank, rank, 'WITHSCORES')
    call('ZREMRANGEBYRANK', key, rank, '-1') -- the base stays, and with it the key and its time to live
    call('ZADD', key, entry[2], text(to))
    total[k], oldest[k], newest_text[k], newest[k] = to, nil, entry[2], nil
  end

  return { level = level, wait = wait, empty = empty, charge = charge, refund = refund, write = write }
end
