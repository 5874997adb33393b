-- Fragment: which task a call is a retry of (design rules 10 to 12).
--
-- A call is a fingerprint. Its tasks that may still be joined are in the sorted set `calls`, by the
-- count of their last waiter, as '<creation ms>:<id>'; those nobody waits for are in `orphans` too.
-- `refused` holds a credit for each retry that is to be expected of a call we sent away before it was
-- a task: one for each that was sent away, however often that is told, and each ends by itself.
-- `waits` says when each replica last had a request wait for a task of this call. Fields of a record that only this file and those that include it know:
--   waiter        the request that waits for the task, or waited last
--   waiting       1 while it does
--   at            the replica where it waits
--   count         which retry it was
--   delivered_ms  when the answer had left for it
--   alone         1 when no call may ever join it
-- A call in an order:
--   count       which retry it says it is; 0 when it says nothing
--   waiter      its request
--   detached    true when nobody will wait for it
--   join        false when the team does not want retries to be joined
--   body        its fingerprint, for the Idempotency-Key to be compared with
--   keyed       true when it has an Idempotency-Key
--   patience_ms how long it waits by itself when it came too fast
--   keep_ms     how long after its end an answer that was not delivered may be joined
--   place_ms    how long a task can be joined at all
--   prefix      of the keys of task records
--   replica     where it waits
--   lease_ms    how long a replica's place lasts
--   present     replicas that may still be alive | absent when that cannot be told now
--
-- A replica that is killed takes its requests' goodbyes with it. So a task is an orphan too when the
-- replica where it is waited for is not present, and had its last request of this call a lease ago or
-- longer: whoever lives has renewed its place since. A replica that only stood still for so long comes
-- back to requests whose tasks others have joined meanwhile. They are answered all the same, with the
-- picture that both get: it was paid for once. Their goodbyes change nothing (`waiter` is another).

-- An answer that has left may still be lost on its way, so a retry may have it again for this long.
local DELIVERED_MS = 60000
local CREDIT_MS = 120000
local KEYED_MS = 86400000
-- Longer than any time in ms, and so short that a thousand of them are exact as a score.
local CREDIT_RANGE = 2 ^ 43
-- No more tasks of one call than this are looked through at once.
local LOOK_AT = 500

local function clock_ms()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

local function member_of(created_ms, id)
  return string.format('%013d:%s', created_ms, id)
end

local function id_of(member)
  return string.sub(member, 15)
end

-- Scores of the credits of a count: its own range, and in it when they end.
local function credit_score(count, ms)
  return string.format('%.0f', count * CREDIT_RANGE + ms)
end

local function credit_of(count, who)
  return string.format('%d:%s', count, who)
end

local function expect_retry(places, count, who)
  redis.call('ZADD', places.refused,
    credit_score(count, clock_ms() + CREDIT_MS), credit_of(count, who))
  redis.call('PEXPIRE', places.refused, CREDIT_MS)
end

local function take_credit(places, count)
  redis.call('ZREMRANGEBYSCORE', places.refused,
    credit_score(count, 0), credit_score(count, clock_ms()))
  local credit = redis.call('ZRANGEBYSCORE', places.refused,
    credit_score(count, 0), '(' .. credit_score(count + 1, 0), 'LIMIT', 0, 1)[1]
  return credit and redis.call('ZREM', places.refused, credit) == 1
end

-- A call was sent away before anybody looked what it is a retry of. What a first try became is its
-- retry's; a retry is a call of its own only if it was one already, for the try before it may be a
-- task whose waiter is not known to have gone.
local function expect_retry_unseen(places, count, who)
  if redis.call('ZSCORE', places.refused, credit_of(count + 1, who)) then
    return
  end
  if count < 1 or take_credit(places, count) then
    expect_retry(places, count + 1, who)
  end
end

local function may_be_joined(call, id, now_ms)
  local record = redis.call(
    'HMGET', call.prefix .. id, 'created_ms', 'delivered_ms', 'ended_ms')
  local created_ms, delivered_ms, ended_ms = unpack(record)
  if not created_ms then
    return false
  end
  if delivered_ms then
    return now_ms - tonumber(delivered_ms) < DELIVERED_MS
  end
  return not ended_ms or now_ms - tonumber(ended_ms) < call.keep_ms
end

-- Remember that a request of this call waits at a replica.
local function waits_at(call, places, now_ms)
  redis.call('HSET', places.waits, call.replica, string.format('%d', now_ms))
  redis.call('PEXPIRE', places.waits, string.format('%d', call.place_ms))
end

local function attach(call, places, member, now_ms)
  local id = id_of(member)
  local key = call.prefix .. id
  redis.call('HSET', key, 'waiter', call.waiter, 'waiting', '1', 'at', call.replica,
    'count', string.format('%d', call.count))
  waits_at(call, places, now_ms)
  -- Whoever sees to the task tells the replica where the call waits.
  local watchers = redis.call('HGET', key, 'watchers') or ''
  if redis.call('HGET', key, 'owner') ~= call.replica
    and not string.find(watchers, call.replica, 1, true) then
    redis.call('HSET', key, 'watchers', watchers .. call.replica .. ' ')
  end
  redis.call('ZREM', places.orphans, member)
  redis.call('ZADD', places.calls, call.count, member)
  return {'joined', id, redis.call('HGET', key, 'trace') or ''}
end

-- Make orphans of the tasks that were waited for at a replica that is gone.
local function orphan_those_at(replica, call, places)
  for _, member in ipairs(redis.call('ZRANGE', places.calls, 0, LOOK_AT - 1)) do
    local key = call.prefix .. id_of(member)
    local record = redis.call(
      'HMGET', key, 'at', 'waiting', 'delivered_ms', 'open', 'replay', 'created_ms')
    local at, waiting, delivered_ms, open, replay, created_ms = unpack(record)
    local may_be_told = open ~= '0' or replay
    if at == replica and waiting == '1' and not delivered_ms and may_be_told then
      redis.call('HSET', key, 'waiting', '0')
      redis.call('ZADD', places.orphans, created_ms, member)
      redis.call('PEXPIRE', places.orphans, string.format('%d', call.place_ms))
    end
  end
end

local function look_for_gone_replicas(call, places, now_ms)
  if not call.present then
    return
  end
  local waits, present = redis.call('HGETALL', places.waits), nil
  for index = 1, #waits, 2 do
    local replica, last_ms = waits[index], tonumber(waits[index + 1])
    if replica ~= call.replica and now_ms - last_ms >= call.lease_ms then
      if not present then
        present = {}
        for _, name in ipairs(call.present) do
          present[name] = true
        end
      end
      if not present[replica] then
        orphan_those_at(replica, call, places)
        redis.call('HDEL', places.waits, replica)
      end
    end
  end
end

-- The oldest task that nobody waits for.
local function orphan_of(call, places, now_ms)
  while true do
    local member = redis.call('ZRANGE', places.orphans, 0, 0)[1]
    if not member then
      return nil
    end
    local delivered = redis.call('HEXISTS', call.prefix .. id_of(member), 'delivered_ms') == 1
    if not delivered and may_be_joined(call, id_of(member), now_ms) then
      return member
    end
    redis.call('ZREM', places.orphans, member)
  end
end

-- The oldest task among those whose last waiter came just before this retry.
local function earlier_of(call, places, now_ms)
  while true do
    local below = '(' .. string.format('%d', call.count)
    local nearest = redis.call(
      'ZREVRANGEBYSCORE', places.calls, below, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not nearest[1] then
      return nil
    end
    local member = redis.call(
      'ZRANGEBYSCORE', places.calls, nearest[2], nearest[2], 'LIMIT', 0, 1)[1]
    if may_be_joined(call, id_of(member), now_ms) then
      return member
    end
    redis.call('ZREM', places.calls, member)
    redis.call('ZREM', places.orphans, member)
  end
end

-- Returns the answer of a call that is not a new task, else nil.
local function join(call, places, now_ms)
  if call.keyed then
    local known = redis.call('HMGET', places.keyed, 'task', 'body')
    if known[1] then
      if known[2] ~= call.body then
        return {'conflict'}
      end
      local created_ms = redis.call('HGET', call.prefix .. known[1], 'created_ms')
      if not created_ms then
        return {'expired'}
      end
      return attach(call, places, member_of(tonumber(created_ms), known[1]), now_ms)
    end
    return nil
  end
  if not call.join or call.detached then
    return nil
  end
  look_for_gone_replicas(call, places, now_ms)
  local orphan = orphan_of(call, places, now_ms)
  if orphan then
    return attach(call, places, orphan, now_ms)
  end
  if call.count < 1 then
    return nil
  end
  if take_credit(places, call.count) then
    call.took_credit = true
    return nil
  end
  local earlier = earlier_of(call, places, now_ms)
  return earlier and attach(call, places, earlier, now_ms)
end

-- A call that is no retry comes too fast: it comes back as one, or as itself if it waits so long.
local function come_back(call, places, wait_ms, who)
  if wait_ms > call.patience_ms then
    expect_retry(places, call.count + 1, who)
  elseif call.took_credit then
    expect_retry(places, call.count, who)
  end
end

-- Make a new task one that retries of its call find.
local function enter(call, places, id, created_ms, now_ms)
  if call.keyed then
    redis.call('HSET', places.keyed, 'task', id, 'body', call.body)
    redis.call('PEXPIRE', places.keyed, KEYED_MS)
  end
  if call.detached or not call.join then
    return
  end
  -- Two of the oldest are looked at for each one that comes, so that the set stays small.
  for _, member in ipairs(redis.call('ZRANGE', places.calls, 0, 1)) do
    if not may_be_joined(call, id_of(member), now_ms) then
      redis.call('ZREM', places.calls, member)
    end
  end
  redis.call('ZADD', places.calls, call.count, member_of(created_ms, id))
  redis.call('PEXPIRE', places.calls, string.format('%d', call.place_ms))
  waits_at(call, places, now_ms)
end

-- Take a task out of what can be joined.
local function forget(places, created_ms, id)
  local member = member_of(created_ms, id)
  redis.call('ZREM', places.calls, member)
  redis.call('ZREM', places.orphans, member)
end
