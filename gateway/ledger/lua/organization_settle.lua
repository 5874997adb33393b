#!lua flags=allow-oom
-- organization_settle: give back what is held for one part of a task, and book what it cost.
--
-- KEYS[1]    hold of the task (hash)
-- KEYS[2]    open holds (sorted set)
-- KEYS[3]    holds that are over (sorted set)
-- KEYS[4]    ledger of the organization (stream)
-- KEYS[5]    sums of what was spent in the task's month (hash)
-- KEYS[6]    sum of what was ever spent (hash)
-- KEYS[7..]  the windows it is thought to be held in, and those of the order
-- ARGV[1]    order, JSON:
--   id, team, part
--   hold       the part's share of what was reserved, micro-dollars, without raises
--   cost       micro-dollars to book; below zero corrects what was booked before
--   apply_by_ms  by the store's clock: what was read longer ago may have been done and forgotten
--   created_ms   when the task was admitted: the quarter of an hour the cost is summed under
--   owner      name of the sums
--   windows    keys of the windows the task was admitted in, by the budgets that there are now
-- Returns  {'done'} | {'late'} | {'windows', {the keys}} when it is held in others
-- Idempotent by task and part. A cost is booked whether or not anything is held for it: in the
-- windows of the hold, and in those of the order that there are. Never gives back more than the
-- task holds. Runs without memory to spare: giving money back must never wait for room.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/organization.lua

local hold_key, holds_key, settled_key, ledger_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local month_key, total_key = KEYS[5], KEYS[6]
local order = cjson.decode(ARGV[1])

local part_field = 'part|' .. order.part
local hold = redis.call(
  'HMGET', hold_key, 'state', 'open', 'windows', 'raise|' .. order.part, part_field)
if hold[5] then
  return {'done'}
end
local now_ms = store_now_ms()
if now_ms > order.apply_by_ms then
  return {'late'}
end

local window_keys, taken, open = {}, 0, 0
if hold[1] == 'held' then
  window_keys = cjson.decode(hold[3])
  if not all_named(window_keys, 7) then
    return {'windows', window_keys}
  end
  open = tonumber(hold[2])
  taken = math.min(order.hold + tonumber(hold[4] or '0'), open)
end
local opened = {}
for _, key in ipairs(order.windows) do
  -- One that is opened later starts from the sums below.
  if redis.call('HEXISTS', key, 'spent') == 1 then
    opened[#opened + 1] = key
  end
end
if hold[1] == 'held' then
  window_keys = widen(hold_key, ledger_key, order.id, order.team, open, window_keys, opened)
else
  window_keys = opened
end

settle(window_keys, taken, order.cost)
redis.call('XADD', ledger_key, '*', 'verb', 'part', 'op', order.id .. ':part:' .. order.part,
  'task', order.id, 'part', order.part, 'of_team', order.team, 'hold', int(taken),
  'cost', int(order.cost), 'windows', write_json_list(window_keys),
  'created_ms', int(order.created_ms))
if order.cost ~= 0 then
  local bucket_ms = order.created_ms - order.created_ms % BUCKET_MS
  redis.call('HINCRBY', month_key, int(bucket_ms) .. '|' .. order.owner, int(order.cost))
  redis.call('PEXPIRE', month_key, int(SUMS_KEEP_MS))
  redis.call('HINCRBY', total_key, order.owner, int(order.cost))
end
redis.call('HSET', hold_key, 'team', order.team, 'open', int(open - taken),
  part_field, int(taken) .. '|' .. int(order.cost))
if open - taken == 0 then
  redis.call('HSET', hold_key, 'state', 'over')
  redis.call('PERSIST', hold_key)
  local member = order.team .. ':' .. order.id
  redis.call('ZREM', holds_key, member)
  -- Another score each time: whoever is about to forget it sees that it has changed.
  local last_ms = tonumber(redis.call('ZSCORE', settled_key, member) or '0')
  redis.call('ZADD', settled_key, int(math.max(now_ms, last_ms + 1)), member)
end
return {'done'}
