#!lua
-- top_up: pay into a prepaid budget: its limit grows, the ledger has an entry, the audit a line.
--
-- KEYS[1]  ledger of the team (stream)
-- KEYS[2]  corrections of the team (hash): which operations were booked, as which entry
-- KEYS[3]  the window of the total (hash)
-- KEYS[4]  audit of the team (stream)
-- ARGV[1]  order, JSON:
--   op     operation id of this top-up
--   delta  micro-dollars to add; negative takes back
--   max    the most that may be paid in
--   entry, audit   flat arrays of names and values: the lines beside the money
-- Returns  {'done', id of the entry, micro-dollars paid in by now}
--          {'refused', micro-dollars paid in} when less than nothing, or too much, would be
-- Idempotent by operation id.

local ledger_key, corrections_key, window_key, audit_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local order = cjson.decode(ARGV[1])

local op_field = 'op|' .. order.op
local paid_in = tonumber(redis.call('HGET', window_key, 'topped_up') or '0')
local done_as = redis.call('HGET', corrections_key, op_field)
if done_as then
  return {'done', done_as, paid_in}
end
if paid_in + order.delta < 0 or paid_in + order.delta > order.max then
  return {'refused', paid_in}
end

local delta = string.format('%d', order.delta)
redis.call('HINCRBY', window_key, 'topped_up', delta)
local entry_id = redis.call('XADD', ledger_key, '*', 'verb', 'top_up', 'op', order.op,
  'delta', delta, 'windows', cjson.encode({window_key}), unpack(order.entry))
redis.call('XADD', audit_key, '*', unpack(order.audit))
redis.call('HSET', corrections_key, op_field, entry_id)
return {'done', entry_id, paid_in + order.delta}
