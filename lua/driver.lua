-- The driver: decides the requests of a call one after the other, each all-or-nothing for itself and seeing those before it,
-- then writes each counter once. Equals `decide` in src/limiter/request.rs.
local ALGORITHMS = { sliding_window, fixed_window, token_bucket }
local CONSUME, RECORD, PEEK, REFUND, OWN = 0, 1, 2, 3, 4 -- OWN: a consume on a key that nothing else in the call touches

local requests, charges = rows('dHBII', 19, ARGV[1]), rows('HHBBd', 14, ARGV[2])
local built, owner = {}, {} -- the algorithms in use, by number and by key
local booked, booked_by = {}, {} -- by key: units that charges of the request `booked_by` took
local over, used, mine, wait, plain = {}, {}, {}, {}, {} -- by charge of the request
local at, debt, gone, newest = {}, {}, {}, {} -- the same, of those with a key of their own
local out, o = { now }, 1

-- The algorithm and the used units of a key, and whether its wait follows from them. Nil if the key holds something else.
local function look(k, l)
  local number = limits[l]
  local algorithm = built[number]
  if not algorithm then
    algorithm = ALGORITHMS[number]()
    built[number] = algorithm
  end
  local before = owner[k]
  if before and before ~= algorithm then
    return nil
  end
  local units, is_plain = algorithm.level(k, l)
  if units then
    owner[k] = algorithm
    return algorithm, units, is_plain
  end
end

-- The verdict of the request's charge `i`, at `c`. Writes nothing. False if the key is not ours.
local function judge(r, i, c)
  local k, l, mode, hits = charges[c], charges[c + 1], charges[c + 2], charges[c + 4]
  local algorithm, units, is_plain = look(k, l)
  if not algorithm then
    return false
  end
  local capacity, before = limits[l + 1], booked_by[k] == r and booked[k] or 0
  local shown, is_over, waits = units + before, false, nil
  mine[i], plain[i] = before, is_plain
  if mode == CONSUME then
    local need = hits * limits[l + 2]
    if shown + need <= capacity then
      booked[k], booked_by[k] = before + need, r
    else
      is_over, waits = true, algorithm.wait(k, l, before, hits)
    end
  elseif mode ~= REFUND then
    if mode == RECORD then
      before = before + min(hits * limits[l + 2], max(UNITS_MAX - shown, 0))
      booked[k], booked_by[k], shown = before, r, units + before
    end
    is_over = shown > capacity
    waits = is_over and algorithm.wait(k, l, before, hits) or algorithm.empty(k, l, before)
  end
  over[i], used[i], wait[i] = is_over, shown, waits
  return true
end

-- The same for a charge whose key is its own.
local function judge_own(i, c)
  local l = charges[c + 1]
  local units
  units, at[i], debt[i], gone[i], newest[i], plain[i] = read_own(KEYS[charges[c]], limits[l], limits[l + 3], limits[l + 4])
  if not units then
    return false
  end
  used[i], over[i], wait[i] = units, units + charges[c + 4] * limits[l + 2] > limits[l + 1], false
  return true
end

-- Judges the charges of a request, and decides. Nil and the key if one is not ours.
local function decide(r, first, n)
  local flags, quota_limits, quota_over, enforced = requests[r + 2], requests[r + 3], requests[r + 4], false
  local c = first
  for i = 1, n do
    local judged
    if charges[c + 2] == OWN then
      judged = judge_own(i, c)
    else
      judged = judge(r, i, c)
    end
    if not judged then
      return nil, charges[c]
    end
    local class = charges[c + 3]
    if class >= QUOTA then
      quota_limits = quota_limits + 1
      if over[i] and class == QUOTA then
        quota_over = quota_over + 1
      end
    elseif class ~= SHADOW and over[i] then
      enforced = true
    end
    c = c + 5
  end
  return flags < 2 and (flags == 1 or enforced or (quota_limits > 0 and quota_over >= quota_limits))
end

-- The waits of what fits, before anything of the request is booked: until the counter is empty, with these hits if they will be
-- booked. Those that follow from the units are left out.
local function waits_of_fitting(first, n, denied)
  local c = first
  for i = 1, n do
    if not wait[i] and charges[c + 2] == CONSUME then
      local k, l, hits = charges[c], charges[c + 1], charges[c + 4]
      if denied then
        wait[i] = owner[k].empty(k, l, mine[i])
      elseif not plain[i] or hits == 0 then
        wait[i] = owner[k].empty(k, l, mine[i] + hits * limits[l + 2])
      end
    end
    c = c + 5
  end
end

-- Books what the request's verdict allows, in order, and appends the numbers of each charge.
local function book(first, n, denied)
  local c = first
  for i = 1, n do
    local k, l, mode, hits = charges[c], charges[c + 1], charges[c + 2], charges[c + 4]
    local algorithm = owner[k]
    if mode == OWN then
      local units = hits * limits[l + 2]
      local booked = not denied and not over[i] and units or 0
      wait[i] = book_own(
        KEYS[k],
        limits[l],
        limits[l + 1],
        limits[l + 3],
        limits[l + 4],
        hits,
        units,
        booked,
        over[i],
        used[i],
        at[i],
        debt[i],
        gone[i],
        newest[i],
        plain[i]
      )
    elseif hits > 0 then
      if mode == RECORD or (mode == CONSUME and not denied and not over[i]) then
        algorithm.charge(k, l, hits)
      elseif mode == REFUND and algorithm.level(k, l) > 0 then
        algorithm.refund(k, l, hits)
      end
    end
    if mode == REFUND then
      used[i], wait[i] = algorithm.level(k, l), algorithm.empty(k, l, 0)
    end
    if wait[i] then
      out[o + 1], out[o + 2] = -1 - used[i], wait[i]
      o = o + 2
    else
      o = o + 1
      out[o] = used[i]
    end
    c = c + 5
  end
end

-- A request of one enforced consume, on a key that others of the call have as well.
local function consume_shared(k, l, hits)
  local algorithm, units, is_plain = look(k, l)
  if not algorithm then
    out[o + 1], out[o + 2] = NOT_OURS, k
    o = o + 2
    return
  end
  local need = hits * limits[l + 2]
  if units + need > limits[l + 1] then
    out[o + 1], out[o + 2], out[o + 3] = DENIED, -1 - units, algorithm.wait(k, l, 0, hits)
    o = o + 3
  elseif is_plain then
    algorithm.charge(k, l, hits)
    out[o + 1], out[o + 2] = ALLOWED, units
    o = o + 2
  else
    out[o + 1], out[o + 2], out[o + 3] = ALLOWED, -1 - units, algorithm.empty(k, l, need)
    o = o + 3
    algorithm.charge(k, l, hits)
  end
end

-- A request of one consume on a key of its own. It gets along without the tables by charge: they would cost it a sixth more.
local function consume_alone(r, c)
  local k, l = charges[c], charges[c + 1]
  local denied, units, waits = consume_own(
    KEYS[k],
    limits[l],
    limits[l + 1],
    limits[l + 2],
    limits[l + 3],
    limits[l + 4],
    charges[c + 3],
    charges[c + 4],
    requests[r + 2],
    requests[r + 3],
    requests[r + 4]
  )
  if not units then
    out[o + 1], out[o + 2] = NOT_OURS, k
    o = o + 2
  elseif waits then
    out[o + 1], out[o + 2], out[o + 3] = denied and DENIED or ALLOWED, -1 - units, waits
    o = o + 3
  else
    out[o + 1], out[o + 2] = denied and DENIED or ALLOWED, units
    o = o + 2
  end
end

local first = 1
for r = 1, #ARGV[1] / 19 * 5, 5 do
  local not_after, n = requests[r], requests[r + 1]
  if not_after > 0 and now > not_after then
    o = o + 1
    out[o] = TOO_LATE
  elseif n == 1 and charges[first + 2] == OWN then
    consume_alone(r, first)
  elseif
    n == 1
    and charges[first + 2] == CONSUME
    and charges[first + 3] == 0
    and charges[first + 4] > 0
    and requests[r + 2] == 0
    and requests[r + 3] == 0
  then
    consume_shared(charges[first], charges[first + 1], charges[first + 4])
  else
    local denied, stranger = decide(r, first, n)
    if stranger then
      out[o + 1], out[o + 2] = NOT_OURS, stranger
      o = o + 2
    else
      o = o + 1
      out[o] = denied and DENIED or ALLOWED
      waits_of_fitting(first, n, denied)
      book(first, n, denied)
    end
  end
  first = first + n * 5
end

for k = 1, #KEYS do
  if owner[k] then
    owner[k].write(k)
  end
end
return out
