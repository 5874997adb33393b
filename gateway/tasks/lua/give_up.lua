#!lua flags=allow-oom
-- give_up: undo an admission whose answer was never heard, whether it ran, runs late or never.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    tasks its owner has to see to (sorted set)
-- KEYS[3]    tombstone of the task id
-- KEYS[4]    in-flight set of the team (sorted set)
-- KEYS[5]    ledger of the team (stream)
-- KEYS[6]    all tasks of the team (sorted set)
-- KEYS[7,8,9]  tasks of this call, orphans among them, its refusals (sorted sets)
-- KEYS[10]   what its Idempotency-Key stands for (hash)
-- KEYS[11..] every budget window the admission may have chosen
-- ARGV[1]    order, JSON:
--   id, created_ms
--   tombstone_ms   how long the tombstone stays: longer than any admission can be on its way
--   call           see calls.lua
--   entries        the ledger's lines, one for each render
-- Returns  'released' | 'nothing' | 'begun' when somebody already works on it
-- Idempotent. A later admission of this id is refused by the tombstone. A task that the call was
-- attached to has nobody who waits for it any more.
-- include: ledger/lua/budgets.lua
-- include: tasks/lua/in_flight.lua
-- include: tasks/lua/calls.lua

local task_key, live_key, tombstone_key = KEYS[1], KEYS[2], KEYS[3]
local in_flight_key, ledger_key, tasks_key = KEYS[4], KEYS[5], KEYS[6]
local places = {calls = KEYS[7], orphans = KEYS[8], refused = KEYS[9], keyed = KEYS[10]}
local order = cjson.decode(ARGV[1])

local is_first = redis.call('SET', tombstone_key, '1', 'PX', int(order.tombstone_ms), 'NX')
local record = redis.call('HMGET', task_key, '0:hold', 'windows', 'open', 'renders', 'subject')
local hold, windows, open, renders, subject = unpack(record)
if not hold then
  local was_attached = false
  for _, member in ipairs(redis.call('ZRANGE', places.calls, 0, LOOK_AT - 1)) do
    local key = order.call.prefix .. id_of(member)
    if redis.call('HGET', key, 'waiter') == order.call.waiter then
      redis.call('HSET', key, 'waiting', '0')
      redis.call('ZADD', places.orphans, order.created_ms, member)
      was_attached = true
    end
  end
  if is_first and not was_attached then
    expect_retry_unseen(places, order.call.count, order.id)
  end
  return 'nothing'
end
if open ~= renders then
  return 'begun'
end
for index = 0, tonumber(renders) - 1 do
  if redis.call('HGET', task_key, index .. ':state') ~= 'queued' then
    return 'begun'
  end
end
for index = 0, tonumber(renders) - 1 do
  settle(cjson.decode(windows), tonumber(hold), 0)
  redis.call('XADD', ledger_key, '*', 'verb', 'release', 'task', order.id,
    'hold', hold, 'cost', '0', 'windows', windows, unpack(order.entries[index + 1]))
end
redis.call('DEL', task_key)
for _, key in ipairs({live_key, tasks_key}) do
  redis.call('ZREM', key, order.id)
end
leave_flight(in_flight_key, order.id, subject)
forget(places, order.created_ms, order.id)
if order.call.keyed then
  redis.call('DEL', places.keyed)
end
expect_retry(places, order.call.count + 1, order.id)
return 'released'
