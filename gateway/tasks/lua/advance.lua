#!lua flags=allow-oom
-- advance: move one render from one state to the next and note what was learned.
--
-- KEYS[1]  task record (hash)
-- ARGV[1]  order, JSON:
--   index     of the render
--   from      comma-separated states it may leave (the table is in domain/task.py)
--   to        state it goes to
--   attempt   attempt id of this try
--   expected  attempt id the record must still have; absent when this event starts an attempt
--   epoch     of whoever says it
--   owner     who says it: after a failover two may have the same epoch
--   fact      true for what is accepted from any owner
--   fields    table of what to write, without the render's prefix
-- Returns  'done' | 'noted' when a fact was written down and the task is somebody else's by now
--          'missing' | 'fenced' | the state it is in when it may not move
-- Idempotent: a render that is in the new state by this very attempt answers 'done'.

local task_key = KEYS[1]
local order = cjson.decode(ARGV[1])
local prefix = string.format('%d:', order.index)

local record = redis.call(
  'HMGET', task_key, prefix .. 'state', prefix .. 'attempt_id', 'epoch', prefix .. 'cost', 'owner')
local state, attempt, epoch, cost, owner = unpack(record)
if not state then
  return 'missing'
end
local is_mine = order.epoch == epoch and order.owner == owner
local done = is_mine and 'done' or 'noted'
if state == order.to and attempt == order.attempt and not cost then
  -- Written again, so that there is something for replicas to acknowledge.
  redis.call('HSET', task_key, prefix .. 'state', state)
  return done
end
if not is_mine and not order.fact then
  return 'fenced'
end
local is_other_attempt = order.expected and attempt ~= order.expected
if cost or not string.find(',' .. order.from .. ',', ',' .. state .. ',', 1, true) then
  -- A known upstream id is never dropped: somebody has to be able to look it up.
  if order.fields.upstream_id and not is_other_attempt then
    redis.call('HSETNX', task_key, prefix .. 'upstream_id', order.fields.upstream_id)
  end
  return state
end
if is_other_attempt then
  return 'fenced'
end
local written = {prefix .. 'state', order.to, prefix .. 'attempt_id', order.attempt}
for name, value in pairs(order.fields) do
  written[#written + 1] = prefix .. name
  written[#written + 1] = value
end
redis.call('HSET', task_key, unpack(written))
redis.call('HINCRBY', task_key, 'version', 1)
return done
