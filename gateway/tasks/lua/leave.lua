#!lua flags=allow-oom
-- leave: nobody waits for a task any more, unless somebody else has come to wait meanwhile.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    orphans of its call (sorted set)
-- KEYS[3,4,5]  pictures of the team that nobody has fetched (hash, sorted sets)
-- ARGV[1]    task id
-- ARGV[2]    the request that leaves
-- ARGV[3]    how long it may be found there, ms
-- ARGV[4]    the gateway's clock, Unix ms
-- ARGV[5]    how long its pictures are kept, ms
-- Returns    1 when the task is an orphan now, else 0. Idempotent.
-- include: tasks/lua/calls.lua
-- include: tasks/lua/unfetched.lua

local record = redis.call(
  'HMGET', KEYS[1], 'waiter', 'delivered_ms', 'alone', 'replay', 'open', 'created_ms')
local waiter, delivered_ms, alone, replay, open, created_ms = unpack(record)
if waiter == ARGV[2] and not delivered_ms then
  redis.call('HSET', KEYS[1], 'left', '1')
  local paid = tonumber(redis.call('HGET', KEYS[1], 'paid') or '0')
  if paid > 0 then
    local places = {paid = KEYS[3], ends = KEYS[4], awaited = KEYS[5]}
    count_unfetched(places, ARGV[1], paid, tonumber(ARGV[4]), tonumber(ARGV[5]))
  end
end
if waiter ~= ARGV[2] or delivered_ms or alone then
  return 0
end
redis.call('HSET', KEYS[1], 'waiting', '0')
if open == '0' and not replay then
  return 0
end
redis.call('ZADD', KEYS[2], created_ms, member_of(tonumber(created_ms), ARGV[1]))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
