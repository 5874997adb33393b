#!lua flags=allow-oom
-- conclude: end a render and its money in one step: settle what it cost or release its hold.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    live index of the team (sorted set)
-- KEYS[3]    in-flight set of the team (sorted set)
-- KEYS[4]    ledger of the team (stream)
-- KEYS[5]    rollup of the task's day (hash)
-- KEYS[6]    sums of what was spent in the task's month (hash)
-- KEYS[7]    sums of what was ever spent (hash)
-- KEYS[8..]  the windows the hold was taken from
-- ARGV[1]    order, JSON:
--   id, epoch (must match), from (comma-separated states it may leave), to (state), verb
--   cost              micro-dollars to book; 0 releases the hold
--   still_live        true to keep the task in the live index: its picture is not stored yet
--   keep_ms           how long the record is kept from now
--   bucket_ms         quarter of an hour the task was admitted in
--   owners            ["team|", "key|<name>", ..]: whose sums the cost goes to
--   rollups           flat array of rollup fields and integers to add
--   fields, entry     flat arrays of names and values: the record, and its line in the ledger
-- Returns  {'done', cost booked, {spent, held, topped up, ..} of each window}
--          {'missing'} | {'fenced'} | {'illegal', state}
-- Idempotent: once the hold is gone nothing moves any more, and the booked cost is answered.
-- Runs without memory to spare: giving money back must never wait for room.
-- include: ledger/lua/budgets.lua

local task_key, live_key, in_flight_key, ledger_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local rollup_key, month_key, total_key = KEYS[5], KEYS[6], KEYS[7]
local order = cjson.decode(ARGV[1])
local ROLLUP_KEEP_MS, SUMS_KEEP_MS = 400 * 86400000, 100 * 86400000

local window_keys = {}
for index = 8, #KEYS do
  window_keys[#window_keys + 1] = KEYS[index]
end

local record = redis.call('HMGET', task_key, 'state', 'epoch', 'hold', 'hold_state', 'cost', 'windows')
local state, epoch, hold, hold_state, booked, windows_json = unpack(record)
if not state then
  return {'missing'}
end
if hold_state ~= 'held' then
  return {'done', tonumber(booked or '0'), balances(window_keys)}
end
if order.epoch ~= epoch then
  return {'fenced'}
end
if not string.find(',' .. order.from .. ',', ',' .. state .. ',', 1, true) then
  return {'illegal', state}
end

local cost = order.cost
settle(window_keys, tonumber(hold), cost)
redis.call('XADD', ledger_key, '*', 'verb', order.verb, 'op', order.id .. ':end', 'task', order.id,
  'hold', hold, 'cost', int(cost), 'windows', windows_json, unpack(order.entry))
if cost > 0 then
  for _, owner in ipairs(order.owners) do
    redis.call('HINCRBY', month_key, int(order.bucket_ms) .. '|' .. owner, int(cost))
    redis.call('HINCRBY', total_key, owner, int(cost))
  end
  redis.call('PEXPIRE', month_key, int(SUMS_KEEP_MS))
end
for index = 1, #order.rollups, 2 do
  redis.call('HINCRBY', rollup_key, order.rollups[index], int(order.rollups[index + 1]))
end
if #order.rollups > 0 then
  redis.call('PEXPIRE', rollup_key, int(ROLLUP_KEEP_MS))
end
redis.call('HSET', task_key, 'state', order.to, 'cost', int(cost),
  'hold_state', cost > 0 and 'settled' or 'released', unpack(order.fields))
redis.call('HINCRBY', task_key, 'version', 1)
-- The order carries the prompt; nobody needs it once nothing can be submitted any more.
redis.call('HDEL', task_key, 'order')
redis.call('PEXPIRE', task_key, int(order.keep_ms))
redis.call('ZREM', in_flight_key, order.id)
if not order.still_live then
  redis.call('ZREM', live_key, order.id)
end
return {'done', cost, balances(window_keys)}
