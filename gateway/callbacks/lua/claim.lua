#!lua flags=allow-oom
-- claim: take a callback that is due, for the length of a lease.
--
-- KEYS[1]  callbacks of the team (sorted set)
-- KEYS[2]  the delivery (hash)
-- ARGV[1]  id of the delivery
-- ARGV[2]  claim, a random text
-- ARGV[3]  now, Unix ms
-- ARGV[4]  length of the lease, ms
-- Returns  {'claimed', url, body, tries}
--          {'early'} when somebody else has it, or it is not due
--          {'gone'} when it is over
-- Idempotent by the claim: repeated, it answers the same and prolongs nothing.

local queue_key, delivery_key = KEYS[1], KEYS[2]
local id, claim, now_ms, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local due_ms = redis.call('ZSCORE', queue_key, id)
if not due_ms then
  return {'gone'}
end
local state, url, body, tries, holder =
  unpack(redis.call('HMGET', delivery_key, 'state', 'url', 'body', 'tries', 'claim'))
if state ~= 'pending' then
  -- The store has lost the one and kept the other.
  redis.call('ZREM', queue_key, id)
  return {'gone'}
end
if holder ~= claim then
  if tonumber(due_ms) > now_ms then
    return {'early'}
  end
  redis.call('HSET', delivery_key, 'claim', claim)
  redis.call('ZADD', queue_key, string.format('%d', now_ms + lease_ms), id)
end
return {'claimed', url, body, tonumber(tries)}
