#!lua flags=allow-oom
-- give_up: undo an admission whose answer was never heard, whether it ran, runs late or never.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    live index of the team (sorted set)
-- KEYS[3]    tombstone of the task id
-- KEYS[4]    in-flight set of the team (sorted set)
-- KEYS[5]    ledger of the team (stream)
-- KEYS[6..]  every budget window the admission may have chosen
-- ARGV[1]    task id
-- ARGV[2]    how long the tombstone stays, ms: longer than any admission can be on its way
-- ARGV[3]    ledger entry, JSON: flat array of names and values
-- Returns  'released' | 'nothing' | 'begun' when somebody already works on it
-- Idempotent. A later admission of this id is refused by the tombstone.
-- include: ledger/lua/budgets.lua

local task_key, live_key, tombstone_key = KEYS[1], KEYS[2], KEYS[3]
local in_flight_key, ledger_key = KEYS[4], KEYS[5]
local task_id = ARGV[1]
local tombstone_ms = ARGV[2]
local entry = cjson.decode(ARGV[3])

redis.call('SET', tombstone_key, '1', 'PX', tombstone_ms)
local record = redis.call('HMGET', task_key, 'state', 'hold', 'hold_state', 'windows')
local state, hold, hold_state, windows = unpack(record)
if not state then
  return 'nothing'
end
if state ~= 'queued' or hold_state ~= 'held' then
  return 'begun'
end
settle(cjson.decode(windows), tonumber(hold), 0)
redis.call('XADD', ledger_key, '*', 'verb', 'release', 'op', task_id .. ':end', 'task', task_id,
  'hold', hold, 'cost', '0', 'windows', windows, unpack(entry))
redis.call('DEL', task_key)
redis.call('ZREM', live_key, task_id)
redis.call('ZREM', in_flight_key, task_id)
return 'released'
