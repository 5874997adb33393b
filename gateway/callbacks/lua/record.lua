#!lua flags=allow-oom
-- record: write down how an attempt ended, and what follows.
--
-- KEYS[1]  callbacks of the team (sorted set)
-- KEYS[2]  the delivery (hash)
-- ARGV[1]  id of the delivery
-- ARGV[2]  claim under which the attempt was made
-- ARGV[3]  what follows: 'delivered', 'failed', or 'pending' for another attempt
-- ARGV[4]  outcome of the attempt, a word or an HTTP status
-- ARGV[5]  now, Unix ms
-- ARGV[6]  when the next attempt is due, Unix ms; read for 'pending' only
-- ARGV[7]  how long the record is kept after the end, ms
-- Returns  {state it is in, 1} | {state it is in, 0} when this was not written | {'gone', 0}
-- Idempotent. That it was delivered is a fact, taken from whoever has seen it; that it was not is
-- a decision about the next attempt, taken from the holder of the claim only.

local queue_key, delivery_key = KEYS[1], KEYS[2]
local id, claim, follows, outcome, now_ms, due_ms, keep_ms = unpack(ARGV)

local state, holder, recorded = unpack(redis.call('HMGET', delivery_key, 'state', 'claim', 'recorded'))
if not state then
  return {'gone', 0}
end
if recorded == claim then
  return {state, 1}
end
if state ~= 'pending' or (follows ~= 'delivered' and holder ~= claim) then
  return {state, 0}
end

redis.call('HSET', delivery_key, 'state', follows, 'last', outcome, 'recorded', claim)
redis.call('HINCRBY', delivery_key, 'tries', 1)
redis.call('HDEL', delivery_key, 'claim')
if follows == 'pending' then
  redis.call('ZADD', queue_key, due_ms, id)
  return {follows, 1}
end
redis.call('HSET', delivery_key, 'ended_ms', now_ms)
-- They hold addresses and links; nobody needs them any more.
redis.call('HDEL', delivery_key, 'url', 'body')
redis.call('PEXPIRE', delivery_key, keep_ms)
redis.call('ZREM', queue_key, id)
return {follows, 1}
