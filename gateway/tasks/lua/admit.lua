#!lua
-- admit: hold a call's price against every budget of its team and write its task, or do neither.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    live index of the team (sorted set)
-- KEYS[3]    tombstone of the task id
-- KEYS[4..]  budget windows, two candidates for each budget (one for a total)
-- ARGV[1]    task id
-- ARGV[2]    amount to hold, micro-dollars
-- ARGV[3]    admit by: refuse when the store's clock is past it (Unix ms)
-- ARGV[4]    budgets, JSON: [{limit, windows: [{key, start_ms, end_ms|absent}]}]
-- ARGV[5]    task fields, JSON: flat array of names and values
-- ARGV[6]    created (Unix ms)
-- ARGV[7]    '1' to write a lost record anew: no limit, tombstone or time refuses it
-- Returns
--   {'admitted', chosen window keys..}   then spent and held of each, flat
--   {'refused', index of the budget, its window key, spent, held}
--   {'late'}  {'given_up'}  {'no_window'}
-- Idempotent by task id: repeating it on an admitted task changes nothing and answers the same.
-- include: ledger/lua/budgets.lua

local task_key, live_key, tombstone_key = KEYS[1], KEYS[2], KEYS[3]
local task_id = ARGV[1]
local amount = tonumber(ARGV[2])
local admit_by_ms = tonumber(ARGV[3])
local budgets = cjson.decode(ARGV[4])
local fields = cjson.decode(ARGV[5])
local created_ms = ARGV[6]
local anew = ARGV[7] == '1'

local function admitted(window_keys)
  return {'admitted', window_keys, balances(window_keys)}
end

local known = redis.call('HGET', task_key, 'windows')
if known then
  return admitted(cjson.decode(known))
end
if not anew and redis.call('EXISTS', tombstone_key) == 1 then
  return {'given_up'}
end
local now_ms = store_now_ms()
if not anew and now_ms > admit_by_ms then
  return {'late'}
end

local chosen, window_keys = {}, {}
for index, budget in ipairs(budgets) do
  local window = window_at(budget, now_ms)
  if not window then
    return {'no_window'}
  end
  window.limit = budget.limit
  chosen[index] = window
  window_keys[index] = window.key
end

local refusing = reserve(chosen, amount, anew)
if refusing then
  local window = chosen[refusing]
  return {'refused', refusing, window.key, window.spent, window.held}
end

-- cjson writes an empty table as an object.
local windows_json = #window_keys == 0 and '[]' or cjson.encode(window_keys)
redis.call('HSET', task_key, 'windows', windows_json, unpack(fields))
redis.call('ZADD', live_key, created_ms, task_id)
return admitted(window_keys)
