#!lua flags=allow-oom
-- forget: take every trace of a task that is over out of its team's slot, but for the books.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    all tasks of the team (sorted set)
-- KEYS[3,4,5]  tasks of its call, orphans among them, its refusals (sorted sets)
-- KEYS[6,7,8]  pictures of the team that nobody has fetched (hash, sorted sets)
-- KEYS[9]    callbacks of the team that are not over (sorted set)
-- KEYS[10]   the prompt that is kept
-- KEYS[11]   says that it was deleted, so that whoever remembers it does not write it again
-- KEYS[12]   when each replica last had a request wait for a task of its call (hash)
-- KEYS[13..] its callbacks, whose names end in their ids (hashes)
-- ARGV[1]    task id
-- ARGV[2]    prefix of the keys of tasks by who has to see to them
-- ARGV[3]    how long that is said, ms
-- ARGV[4..]  ids of its callbacks, in the order of their keys
-- Returns    'gone' | 'running' when something may still come of it
-- Idempotent.
-- include: tasks/lua/calls.lua
-- include: tasks/lua/unfetched.lua

local task_key, id = KEYS[1], ARGV[1]
local places = {calls = KEYS[3], orphans = KEYS[4], refused = KEYS[5]}
local record = redis.call('HMGET', task_key, 'open', 'unstored', 'owner', 'created_ms', 'keyed')
local open, unstored, owner, created_ms, keyed = unpack(record)
if open then
  if tonumber(open) > 0 or tonumber(unstored or '0') > 0 then
    return 'running'
  end
  forget(places, tonumber(created_ms), id)
  if redis.call('EXISTS', places.calls) == 0 then
    redis.call('DEL', KEYS[12])
  end
  redis.call('ZREM', ARGV[2] .. owner, id)
  if keyed then
    redis.call('DEL', keyed)
  end
end
redis.call('DEL', task_key, KEYS[10])
redis.call('ZREM', KEYS[2], id)
forget_unfetched({paid = KEYS[6], ends = KEYS[7], awaited = KEYS[8]}, id)
redis.call('SET', KEYS[11], '1', 'PX', ARGV[3])
for position = 13, #KEYS do
  redis.call('DEL', KEYS[position])
  redis.call('ZREM', KEYS[9], ARGV[position - 9])
end
return 'gone'
