#!lua flags=allow-oom
-- move: let another replica see to a task, by compare-and-set on its owner.
--
-- KEYS[1]  task record (hash)
-- KEYS[2]  tasks the old owner has to see to (sorted set)
-- KEYS[3]  tasks the new owner has to see to (sorted set)
-- KEYS[4]  replicas that see to tasks of the team (set)
-- ARGV[1]  task id
-- ARGV[2]  old owner, '' for nobody
-- ARGV[3]  new owner, '' for nobody: the task is handed over to whoever comes
-- Returns  {'gone'} when there is no such record, {'other', its owner} when somebody was faster,
--          {'moved', fields and values of the record}
-- Idempotent: moving to the owner it has answers 'moved' and changes nothing. Handing over is
-- refused with {'other', ..} while a render is being submitted: only who posts it knows its fate.

local task_key, from_key, to_key, owners_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, from, to = ARGV[1], ARGV[2], ARGV[3]

local record = redis.call('HMGET', task_key, 'owner', 'created_ms', 'renders', 'watchers')
local owner, created_ms, renders, watchers = unpack(record)
if not owner then
  redis.call('ZREM', from_key, id)
  if redis.call('EXISTS', from_key) == 0 then
    redis.call('SREM', owners_key, from)
  end
  return {'gone'}
end
if owner == to then
  return {'moved', redis.call('HGETALL', task_key)}
end
if owner ~= from then
  redis.call('ZREM', from_key, id)
  return {'other', owner}
end
if to == '' then
  for index = 0, tonumber(renders) - 1 do
    if redis.call('HGET', task_key, index .. ':state') == 'submitting' then
      return {'other', owner}
    end
  end
end
-- Whoever had the task may still have requests that wait for it.
if from ~= '' and not string.find(watchers or '', from, 1, true) then
  redis.call('HSET', task_key, 'watchers', (watchers or '') .. from .. ' ')
end
redis.call('HSET', task_key, 'owner', to)
redis.call('HINCRBY', task_key, 'epoch', 1)
redis.call('HINCRBY', task_key, 'version', 1)
redis.call('ZREM', from_key, id)
redis.call('ZADD', to_key, created_ms, id)
redis.call('SADD', owners_key, to)
if redis.call('EXISTS', from_key) == 0 then
  redis.call('SREM', owners_key, from)
end
return {'moved', redis.call('HGETALL', task_key)}
