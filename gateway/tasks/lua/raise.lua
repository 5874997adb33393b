#!lua flags=allow-oom
-- raise: hold more for a render that was submitted. It cannot be taken back any more, so no budget
-- refuses it.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    ledger of the team (stream)
-- KEYS[3]    outbox of the team: what the organization is to be told (hash)
-- KEYS[4..]  the windows the hold is thought to be taken from; its record decides
-- ARGV[1]    index of the render
-- ARGV[2]    task id
-- ARGV[3]    micro-dollars to add to its hold
-- ARGV[4]    ledger entry, JSON: flat array of names and values
-- ARGV[5]    value of its entry in the outbox, '' for none
-- Returns    'done' | 'missing' | 'over' when the hold is gone
-- Idempotent: a render's hold is raised once.
-- include: ledger/lua/budgets.lua

local task_key, ledger_key = KEYS[1], KEYS[2]
local prefix, task_id, extra = ARGV[1] .. ':', ARGV[2], tonumber(ARGV[3])
local entry = cjson.decode(ARGV[4])

local record = redis.call('HMGET', task_key, prefix .. 'hold', prefix .. 'cost', 'windows',
  prefix .. 'raised')
local hold, cost, windows_json, raised = unpack(record)
if not hold then
  return 'missing'
end
if raised then
  return 'done'
end
if cost then
  return 'over'
end
settle(cjson.decode(windows_json), -extra, 0)
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[3], task_id .. ':' .. ARGV[1], ARGV[5])
end
redis.call('HINCRBY', task_key, prefix .. 'hold', int(extra))
redis.call('HSET', task_key, prefix .. 'raised', int(extra))
redis.call('XADD', ledger_key, '*', 'verb', 'raise', 'task', task_id, 'amount', int(extra),
  'windows', windows_json, unpack(entry))
return 'done'
