-- Gives back hits that were charged at a known time and that nobody used. Equals `give_back` in src/limiter/state.rs. The fragments
-- read; what is taken away is written here, so that the driver does not carry it along.
local ALGORITHMS = { sliding_window, fixed_window, token_bucket }
local FOREIGN, LATE = -1, -2 -- in place of the units

local requests, charges = rows('dH', 10, ARGV[1]), rows('HHdd', 20, ARGV[2])

-- Each of the three takes away, and is false if the key holds something else.

-- From the entry whose score is the end of the tick of `at`, then from older ones in the window, never from newer ones.
local function from_sliding_window(key, l, hits, at)
  local W, tick = limits[l + 3], limits[l + 4]
  local score = text(ceil(at / tick) * tick)
  local base = max(call('ZCOUNT', key, '-inf', text(now - W)) - 1, 0)
  local place = call('ZCOUNT', key, '-inf', '(' .. score)
  if place <= base or call('ZCOUNT', key, score, score) == 0 then
    return
  end
  return take_from(key, base, place, hits)
end

-- If the counted window is the one of `at`.
local function from_fixed_window(key, l, hits, at)
  local W = limits[l + 3]
  local start, count = match(call('GET', key), '^(%d+) (%d+)$')
  if start + 0 ~= at - at % W then
    return
  end
  local left = max(count - hits, 0)
  if left > 0 then
    call('SET', key, start .. ' ' .. text(left), 'PX', ttl_text(start + W))
  else
    call('DEL', key)
  end
end

-- Less what may have drained of them since. A bucket written last before `at` does not hold them.
local function from_token_bucket(key, l, hits, at, used)
  local drain, stored = limits[l + 4], tonumber(match(call('GET', key), '@(%d+)$'))
  local till, charged = max(stored, now), min(hits * limits[l + 2], UNITS_MAX)
  local drained = min(ceil((till - at) * drain), charged)
  local left = used - min(charged - drained, used)
  if stored < at or left == used then
    return
  end
  if left > 0 then
    call('SET', key, text(left) .. '@' .. text(till), 'PX', ttl_text(till + min(ceil(left / drain), POINT_MAX) + 1))
  else
    call('DEL', key)
  end
end

local TAKE = { from_sliding_window, from_fixed_window, from_token_bucket }

-- The units used and the wait until empty, after the hits are gone. Nil if the key holds something else.
local function give_back(k, l, hits, at)
  local number = limits[l]
  local algorithm = ALGORITHMS[number]()
  local used = algorithm.level(k, l)
  if used and used > 0 and hits > 0 then
    if TAKE[number](KEYS[k], l, hits, at, used) == false then
      return nil
    end
    algorithm = ALGORITHMS[number]() -- a new one reads anew
    used = algorithm.level(k, l)
  end
  if used then
    return used, algorithm.empty(k, l, 0)
  end
end

local out, o, c = { now }, 1, 1
for r = 1, #ARGV[1] / 10 * 2, 2 do
  local not_after = requests[r]
  local too_late = not_after > 0 and now > not_after
  for _ = 1, requests[r + 1] do
    local used, wait = LATE, nil
    if not too_late then
      used, wait = give_back(charges[c], charges[c + 1], charges[c + 2], charges[c + 3])
    end
    o = o + 1
    out[o] = used or FOREIGN
    if wait then
      o = o + 1
      out[o] = wait
    end
    c = c + 4
  end
end
return out
