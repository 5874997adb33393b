#!lua flags=allow-oom
-- conclude: end a render and its money in one step: settle what it cost or release its hold.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    live index of the team (sorted set)
-- KEYS[3]    ledger of the team (stream)
-- KEYS[4..]  the windows the hold was taken from
-- ARGV[1]    task id
-- ARGV[2]    states it may leave from, comma-separated
-- ARGV[3]    state it goes to
-- ARGV[4]    epoch that must match
-- ARGV[5]    cost to book, micro-dollars; 0 releases the hold
-- ARGV[6]    '1' to keep the task in the live index: its picture is not in the store yet
-- ARGV[7]    fields to write, JSON: flat array of names and values
-- ARGV[8]    ledger entry, JSON: flat array of names and values
-- ARGV[9]    how long the record is kept from now, ms
-- Returns  {'done', cost booked, {spent, held, ..} of each window}
--          {'missing'} | {'fenced'} | {'illegal', state}
-- Idempotent: once the hold is gone nothing moves any more, and the booked cost is answered.
-- Runs without memory to spare: giving money back must never wait for room.
-- include: ledger/lua/budgets.lua

local task_key, live_key, ledger_key = KEYS[1], KEYS[2], KEYS[3]
local task_id = ARGV[1]
local from_states = ',' .. ARGV[2] .. ','
local to_state = ARGV[3]
local epoch = ARGV[4]
local cost = tonumber(ARGV[5])
local still_live = ARGV[6] == '1'
local fields = cjson.decode(ARGV[7])
local entry = cjson.decode(ARGV[8])
local keep_ms = ARGV[9]

local window_keys = {}
for index = 4, #KEYS do
  window_keys[#window_keys + 1] = KEYS[index]
end

local record = redis.call('HMGET', task_key, 'state', 'epoch', 'hold', 'hold_state', 'cost')
local state, owner_epoch, hold, hold_state, booked = unpack(record)
if not state then
  return {'missing'}
end
if hold_state ~= 'held' then
  return {'done', tonumber(booked or '0'), balances(window_keys)}
end
if epoch ~= owner_epoch then
  return {'fenced'}
end
if not string.find(from_states, ',' .. state .. ',', 1, true) then
  return {'illegal', state}
end

settle(window_keys, tonumber(hold), cost)
redis.call('XADD', ledger_key, '*', 'task', task_id, 'hold', hold,
  'cost', string.format('%d', cost), unpack(entry))
redis.call('HSET', task_key, 'state', to_state, 'cost', string.format('%d', cost),
  'hold_state', cost > 0 and 'settled' or 'released', unpack(fields))
redis.call('HINCRBY', task_key, 'version', 1)
-- The order carries the prompt; nobody needs it once nothing can be submitted any more.
redis.call('HDEL', task_key, 'order')
redis.call('PEXPIRE', task_key, keep_ms)
if not still_live then
  redis.call('ZREM', live_key, task_id)
end
return {'done', cost, balances(window_keys)}
