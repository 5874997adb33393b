#!lua flags=allow-oom
-- organization_raise: hold more for a part of a task than was reserved, whatever the limits say.
--
-- KEYS[1]   hold of the task (hash)
-- KEYS[2]   ledger of the organization (stream)
-- KEYS[3..] the windows it is thought to be held in
-- ARGV[1]   task id
-- ARGV[2]   part id
-- ARGV[3]   by how much the part is raised in all, micro-dollars
-- Returns   {'done'} | {'nothing'} when nothing is held, or the part is settled
--           {'windows', {the keys}} when it is held in others
-- Idempotent: what counts is the highest amount, in whatever order they come.
-- Runs without memory to spare: the upstream works on it already.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/organization.lua

local hold_key, ledger_key = KEYS[1], KEYS[2]
local task_id, part, raised = ARGV[1], ARGV[2], tonumber(ARGV[3])

local hold = redis.call('HMGET', hold_key, 'state', 'windows', 'raise|' .. part, 'part|' .. part)
if hold[1] ~= 'held' or hold[4] then
  return {'nothing'}
end
local extra = raised - tonumber(hold[3] or '0')
if extra <= 0 then
  return {'done'}
end
local window_keys = cjson.decode(hold[2])
if not all_named(window_keys, 3) then
  return {'windows', window_keys}
end
settle(window_keys, -extra, 0)
redis.call('HINCRBY', hold_key, 'open', int(extra))
redis.call('HSET', hold_key, 'raise|' .. part, int(raised))
redis.call('XADD', ledger_key, '*', 'verb', 'raise', 'op', task_id .. ':raise:' .. part,
  'task', task_id, 'part', part, 'amount', int(extra), 'windows', hold[2])
return {'done'}
