-- A call that is one consume, in place of the driver: its arguments.
local key = KEYS[1]
local not_after, _, flags, quota_limits, quota_over = unpack('<dHBII', ARGV[1])
local _, _, _, class, hits = unpack('<HHBBd', ARGV[2])
local algorithm, capacity, cost, W, pace = unpack('<Bdddd', ARGV[3])
local tick, tick_ends, tick_ends_text, moment, moment_text, last_end, own_ttl_text
local edge_of, edge = W, now - W -- as text it would pay only if it were used again
if not_after > 0 and now > not_after then
  return { now, TOO_LATE }
end
