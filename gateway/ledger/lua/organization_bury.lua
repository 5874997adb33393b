#!lua flags=allow-oom
-- organization_bury: make sure that a task never comes to be, unless it is there or was.
--
-- KEYS[1]  task record (hash)
-- KEYS[2]  tombstone of the task id
-- KEYS[3]  outbox of the team (hash)
-- ARGV[1]  task id
-- ARGV[2]  how long the tombstone stays, ms: longer than any admission can be on its way
-- Returns  'task' when there is one | 'owed' when its settlement is still to be told
--          'free' when there is none, and from now on none can be
-- Idempotent. An admission of this id that comes later is refused by the tombstone.

local prefix = ARGV[1] .. ':'
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'task'
end
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(field, 1, #prefix) == prefix then
    return 'owed'
  end
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
return 'free'
