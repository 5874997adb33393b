#!lua flags=allow-oom
-- organization_release: give back all that is held for a task that never came to be.
--
-- KEYS[1]   hold of the task (hash)
-- KEYS[2]   open holds (sorted set)
-- KEYS[3]   ledger of the organization (stream)
-- KEYS[4..] the windows it is thought to be held in
-- ARGV[1]   task id
-- ARGV[2]   how long its end is remembered, ms: longer than any reserve can be on its way
-- Returns   {'released'} | {'nothing'} | {'windows', {the keys}} when it is held in others
-- Idempotent. A reserve of this id that comes later is refused.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/organization.lua

local hold_key, holds_key, ledger_key = KEYS[1], KEYS[2], KEYS[3]
local task_id, remember_ms = ARGV[1], ARGV[2]

local hold = redis.call('HMGET', hold_key, 'state', 'open', 'windows', 'team')
if hold[1] == 'over' then
  return {'nothing'}
end
if not hold[1] then
  redis.call('HSET', hold_key, 'state', 'over')
  redis.call('PEXPIRE', hold_key, remember_ms)
  return {'nothing'}
end
local window_keys = cjson.decode(hold[3])
if not all_named(window_keys, 4) then
  return {'windows', window_keys}
end
settle(window_keys, tonumber(hold[2]), 0)
redis.call('XADD', ledger_key, '*', 'verb', 'release', 'op', task_id .. ':end', 'task', task_id,
  'of_team', hold[4], 'hold', hold[2], 'cost', '0', 'windows', hold[3])
redis.call('HSET', hold_key, 'state', 'over', 'open', '0')
redis.call('PEXPIRE', hold_key, remember_ms)
redis.call('ZREM', holds_key, hold[4] .. ':' .. task_id)
return {'released'}
