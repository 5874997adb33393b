#!lua flags=allow-oom
-- restore: bring the record of a task that the store has set back up to what its owner remembers.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    tasks that this owner has to see to (sorted set)
-- KEYS[3]    replicas that see to tasks of the team (set)
-- KEYS[4]    ledger of the team (stream)
-- KEYS[5]    outbox of the team: what the organization is to be told (hash)
-- KEYS[6..]  the windows the hold was taken from
-- ARGV[1]    order, JSON:
--   id, created_ms, epoch, owner
--   live       prefix of the keys of tasks by who has to see to them
--   progress   how far each state is within one try: {state: 0..8}
--   renders    one for each:
--     index
--     progress  10 * tries + that of its state, 9 when its money is settled
--     fields    flat array of names and values without the render's prefix: where it was when its
--               money was settled, if it is
--     raised    micro-dollars beyond the task's hold, 0 for none; entry: the ledger's line of that
--     outbox    field and value of its entry there | absent; an end that the organization was never
--               told of is not told now: it is in the sums of what it was not told (untold.lua)
-- Returns  {'missing'}
--          {'fenced'} when the task has another owner by now, of this epoch or a later one
--          {'done', whether anything was behind (0 or 1), indexes of renders whose money is not
--           settled here though it is there, ..}
-- Idempotent; a record is never taken back.
-- include: ledger/lua/budgets.lua

local task_key, live_key, owners_key = KEYS[1], KEYS[2], KEYS[3]
local ledger_key, outbox_key = KEYS[4], KEYS[5]
local order = cjson.decode(ARGV[1])

local record = redis.call('HMGET', task_key, 'epoch', 'owner', 'windows')
local epoch, owner, windows_json = unpack(record)
if not epoch then
  return {'missing'}
end
local is_other = owner ~= order.owner
if tonumber(epoch) > order.epoch or (tonumber(epoch) == order.epoch and is_other) then
  return {'fenced'}
end

local behind = tonumber(epoch) < order.epoch and 1 or 0
if behind == 1 then
  redis.call('HSET', task_key, 'epoch', int(order.epoch), 'owner', order.owner)
  if is_other then
    redis.call('ZREM', order.live .. owner, order.id)
    if redis.call('EXISTS', order.live .. owner) == 0 then
      redis.call('SREM', owners_key, owner)
    end
    redis.call('ZADD', live_key, int(order.created_ms), order.id)
    redis.call('SADD', owners_key, order.owner)
  end
end

local unsettled = {}
for _, render in ipairs(order.renders) do
  local prefix = string.format('%d:', render.index)
  local known = redis.call('HMGET', task_key, prefix .. 'state', prefix .. 'tries',
    prefix .. 'cost', prefix .. 'raised', prefix .. 'told')
  local state, tries, cost, raised, told = unpack(known)
  if not cost then
    if 10 * tonumber(tries or '0') + order.progress[state] < render.progress then
      behind = 1
      for index = 1, #render.fields, 2 do
        redis.call('HSET', task_key, prefix .. render.fields[index], render.fields[index + 1])
      end
    end
    if render.raised > 0 and not raised then
      behind = 1
      settle(cjson.decode(windows_json), -render.raised, 0)
      redis.call('HINCRBY', task_key, prefix .. 'hold', int(render.raised))
      redis.call('HSET', task_key, prefix .. 'raised', int(render.raised))
      redis.call('XADD', ledger_key, '*', 'verb', 'raise', 'task', order.id,
        'amount', int(render.raised), 'windows', windows_json, unpack(render.entry))
    end
    if render.progress % 10 == 9 then
      unsettled[#unsettled + 1] = render.index
    end
  end
  if render.outbox and (told or not cost) then
    redis.call('HSET', outbox_key, render.outbox[1], render.outbox[2])
  end
end
if behind == 1 then
  redis.call('HINCRBY', task_key, 'version', 1)
end
return {'done', behind, unpack(unsettled)}
