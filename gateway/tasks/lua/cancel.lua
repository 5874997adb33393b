#!lua flags=allow-oom
-- cancel: ask whoever sees to a task to submit nothing more of it. What was submitted goes on: it
-- may be charged.
--
-- KEYS[1]  task record (hash)
-- Returns  false when there is no such task, else its owner ('' for nobody)
-- Idempotent.

local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and redis.call('HGET', KEYS[1], 'open') ~= '0' then
  redis.call('HSET', KEYS[1], 'cancelled', '1')
end
return owner
