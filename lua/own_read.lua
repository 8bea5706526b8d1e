-- Reads a counter that nothing else in the call touches. Known before: `key`; `algorithm`, `W` and `pace` of its limit. Known after: the
-- units `used`, nil if the key holds something else, and what own_book.lua needs. A fixed window: `debt` hits since `at`. A bucket:
-- `debt` units at `at`. A sliding window: `debt` is the newest total, `newest` its score as text, `gone` the entries below the base that
-- have left. `plain`: the wait of a consume that is booked follows from the units.
--
-- With own_book.lua this equals what the driver does for keys that charges share, without the tables that they share; tests hold the
-- two equal. Both are bodies of functions in the batch, and lines of a call that is but one consume: functions, with all that they
-- capture, cost such a call a tenth more.
local used, at, debt, gone, newest, plain = nil, 0, 0, 0, false, true
if algorithm == 1 then
  local tail = try('ZRANGE', key, '-1', '-1', 'WITHSCORES')
  if tail[1] then
    if edge_of ~= W then
      edge_of, edge = W, text(now - W)
    end
    local outside = call('ZRANGEBYSCORE', key, '-inf', edge)
    gone = max(#outside - 1, 0)
    local base = tonumber(outside[gone + 1] or call('ZRANGE', key, '0', '0')[1])
    debt, newest = tonumber(tail[1]), tail[2]
    if base and debt and 0 <= base and 0 < debt and (base < debt or gone > 0 and base == debt) and debt <= POINT_MAX then
      used = debt - base
    end
  elseif not tail.err then
    used = 0
  end
else
  local value = try('GET', key)
  local is_ours = not value
  if type(value) == 'string' then
    if algorithm == 2 then
      at, debt = match(value, '^(%d+) (%d+)$')
    else
      debt, at = match(value, '^(%d+)@(%d+)$')
    end
    at, debt = tonumber(at), tonumber(debt)
    is_ours = debt and at <= POINT_MAX and 0 < debt and debt <= UNITS_MAX
  end
  if is_ours then
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
  end
end
