#!lua flags=allow-oom
-- read_unfetched: tell what was paid for and nobody has fetched; pictures that are gone are dropped,
-- and those whose request has died with its replica are counted from now on.
--
-- KEYS[1]  micro-dollars by task, and their sum (hash)
-- KEYS[2]  the same tasks by when their pictures are gone (sorted set)
-- KEYS[3]  tasks with pictures that a request waits for, by when they were paid (sorted set)
-- ARGV[1]  the gateway's clock, Unix ms
-- ARGV[2]  how many tasks are dropped, and how many looked at, at the most
-- ARGV[3]  prefix of the keys of task records
-- ARGV[4]  how long a replica's place lasts, ms
-- ARGV[5..]  replicas that may still be alive; none when that cannot be told now
-- Returns  micro-dollars. Idempotent.
-- include: tasks/lua/unfetched.lua

local places = {paid = KEYS[1], ends = KEYS[2], awaited = KEYS[3]}
local now_ms, at_once, prefix, lease_ms = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])

for _, id in ipairs(redis.call('ZRANGEBYSCORE', places.ends, '-inf', now_ms, 'LIMIT', 0, at_once)) do
  forget_unfetched(places, id)
end

local present = {}
for index = 5, #ARGV do
  present[ARGV[index]] = true
end

-- Count a task that was paid a lease ago if its request is gone; look at it no more if it was had.
local function look_at(id)
  local key = prefix .. id
  local record = redis.call('HMGET', key, 'at', 'paid', 'delivered_ms', 'ended_ms')
  local at, paid, delivered_ms, ended_ms = record[1], tonumber(record[2] or '0'), record[3], record[4]
  if paid < 1 or delivered_ms then
    redis.call('ZREM', places.awaited, id)
  elseif ended_ms and not present[at] then
    count_unfetched(places, id, paid, now_ms, redis.call('PTTL', key))
  end
end

if next(present) then
  local before = string.format('%d', now_ms - lease_ms)
  for _, id in ipairs(
    redis.call('ZRANGEBYSCORE', places.awaited, '-inf', before, 'LIMIT', 0, at_once)) do
    look_at(id)
  end
end
return tonumber(redis.call('HGET', places.paid, 'total') or '0')
