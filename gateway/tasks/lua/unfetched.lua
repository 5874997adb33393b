-- Fragment: what was paid for and nobody waits for, until somebody fetches it or nobody can.
--
-- `paid` holds micro-dollars by task id, and their sum as 'total'; `ends` holds the ids by the
-- moment from which their pictures are gone (Unix ms). `awaited` holds the ids of other tasks: those
-- with pictures that a request waits for, by when the last of them was paid. Whoever reads the sum
-- sees to those whose request has died with its replica.
-- Fields of a record only these scripts know:
--   paid  micro-dollars of its pictures so far that were not fetched
--   0:fetched …  1 when this picture was fetched by another way than the answer of its call
--   left  1 when a request that waited for it went away

local function last_at_least(key, keep_ms)
  if redis.call('PTTL', key) < keep_ms then
    redis.call('PEXPIRE', key, string.format('%d', keep_ms))
  end
end

-- Do not count it yet: a request waits for its pictures.
local function await_fetch(places, id, _, now_ms, keep_ms)
  redis.call('ZADD', places.awaited, string.format('%d', now_ms), id)
  last_at_least(places.awaited, keep_ms)
end

-- Count a task with this amount, whatever it was counted with before.
local function count_unfetched(places, id, microusd, now_ms, keep_ms)
  local before = tonumber(redis.call('HGET', places.paid, id) or '0')
  redis.call('HSET', places.paid, id, string.format('%d', microusd))
  redis.call('HINCRBY', places.paid, 'total', string.format('%d', microusd - before))
  redis.call('ZADD', places.ends, string.format('%d', now_ms + keep_ms), id)
  redis.call('ZREM', places.awaited, id)
  last_at_least(places.paid, keep_ms)
  last_at_least(places.ends, keep_ms)
end

-- Count it no more.
local function forget_unfetched(places, id)
  redis.call('ZREM', places.awaited, id)
  local microusd = redis.call('HGET', places.paid, id)
  if microusd then
    redis.call('HINCRBY', places.paid, 'total', string.format('%d', -tonumber(microusd)))
    redis.call('HDEL', places.paid, id)
    redis.call('ZREM', places.ends, id)
  end
end

-- A picture of it was fetched: not to be counted from now on, however often that is told.
local function count_fetched(places, task_key, id, index)
  local cost = redis.call('HGET', task_key, index .. ':cost')
  if not cost or redis.call('HSETNX', task_key, index .. ':fetched', '1') == 0 then
    return
  end
  redis.call('HINCRBY', task_key, 'paid', string.format('%d', -tonumber(cost)))
  if redis.call('HEXISTS', places.paid, id) == 1 then
    redis.call('HINCRBY', places.paid, 'total', string.format('%d', -tonumber(cost)))
    if redis.call('HINCRBY', places.paid, id, string.format('%d', -tonumber(cost))) <= 0 then
      forget_unfetched(places, id)
    end
  end
end
