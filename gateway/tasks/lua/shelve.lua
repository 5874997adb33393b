#!lua flags=allow-oom
-- shelve: note that pictures are in the asset store, so that nobody looks after them any more.
--
-- KEYS[1]    live index of the team (sorted set)
-- KEYS[2..]  task records (hashes)
-- ARGV[i]    task id of KEYS[i + 1]
-- Returns    how many left the live index. Idempotent.

local live_key = KEYS[1]
for index = 2, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then
    redis.call('HSET', KEYS[index], 'stored', '1')
  end
end
return redis.call('ZREM', live_key, unpack(ARGV))
