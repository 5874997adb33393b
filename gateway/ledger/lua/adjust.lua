#!lua
-- adjust: correct what a possible charge counts as, wherever it still counts.
--
-- KEYS[1]    ledger of the team (stream)
-- KEYS[2]    corrections of the team (hash)
-- KEYS[3]    rollup of the charge's day (hash)
-- KEYS[4]    sums of what was spent in the charge's month (hash)
-- KEYS[5]    sums of what was ever spent (hash)
-- KEYS[6]    outbox of the team (hash)
-- KEYS[7..]  the windows the charge was booked in
-- ARGV[1]    order, JSON:
--   op         operation id of this correction
--   task       whose charge it is
--   corrects   the task, or the task and the render: what all corrections add up to
--   booked     what was booked for it, micro-dollars
--   delta      what to add to that; negative gives back
--   bucket_ms  quarter of an hour the charge is summed under
--   owners     ["team|", "key|<name>", ..]: in whose sums the charge is
--   rollups    flat array of rollup fields and integers to add
--   entry      flat array of names and values: the ledger's line beside its money
--   told       what the organization is to be told of it
-- Returns  {'done', id of the entry, all corrections of the task}
--          {'refused', all corrections so far} when the task would end up below zero
-- Idempotent by operation id. Windows and sums that have expired stay gone.

local ledger_key, corrections_key, rollup_key = KEYS[1], KEYS[2], KEYS[3]
local month_key, total_key, outbox_key = KEYS[4], KEYS[5], KEYS[6]
local order = cjson.decode(ARGV[1])
local ROLLUP_KEEP_MS = 400 * 86400000

local function int(number)
  return string.format('%d', number)
end

local function add_to_sum(key, field)
  if redis.call('HEXISTS', key, field) == 1 then
    redis.call('HINCRBY', key, field, int(order.delta))
  end
end

local sum_field, op_field = 'task|' .. order.corrects, 'op|' .. order.op
local so_far = tonumber(redis.call('HGET', corrections_key, sum_field) or '0')
local done_as = redis.call('HGET', corrections_key, op_field)
if done_as then
  return {'done', done_as, so_far}
end
if order.booked + so_far + order.delta < 0 then
  return {'refused', so_far}
end

local touched = {}
for index = 7, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then
    redis.call('HINCRBY', KEYS[index], 'spent', int(order.delta))
    touched[#touched + 1] = KEYS[index]
  end
end
for _, owner in ipairs(order.owners) do
  add_to_sum(month_key, int(order.bucket_ms) .. '|' .. owner)
  add_to_sum(total_key, owner)
end
for index = 1, #order.rollups, 2 do
  redis.call('HINCRBY', rollup_key, order.rollups[index], int(order.rollups[index + 1]))
end
redis.call('PEXPIRE', rollup_key, int(ROLLUP_KEEP_MS))
-- cjson writes an empty table as an object.
local windows_json = #touched == 0 and '[]' or cjson.encode(touched)
local entry_id = redis.call('XADD', ledger_key, '*', 'verb', 'adjust', 'op', order.op,
  'task', order.task, 'delta', int(order.delta), 'windows', windows_json, unpack(order.entry))
redis.call('HSET', outbox_key, order.task .. ':' .. order.op, order.told)
redis.call('HSET', corrections_key, sum_field, int(so_far + order.delta), op_field, entry_id)
return {'done', entry_id, so_far + order.delta}
