#!lua
-- admit: check every limit of a call and take them all at once: its price from each budget, its
-- place in each quota; and write its task. Or do none of it.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    live index of the team (sorted set)
-- KEYS[3]    tombstone of the task id
-- KEYS[4]    account of the team (hash)
-- KEYS[5]    in-flight set of the team (sorted set of task ids by images)
-- KEYS[6]    ledger of the team (stream)
-- KEYS[7,8]  sums of what was spent, last month's and this month's (hashes)
-- KEYS[9]    sums of what was ever spent (hash)
-- KEYS[10..] every budget window, rate and day counter named in the order
-- ARGV[1]    order, JSON:
--   id, amount (micro-dollars), images, created_ms, admit_by_ms (by the store's clock)
--   account_version   version of the account the caller was read at, '' for none
--   anew              true to write a lost record again: no limit, tombstone or time refuses it
--   budgets           [{scope, owner, limit, windows: [{key, start_ms, end_ms|absent}]}]
--   rates             [{key, limit, units}] per minute
--   day               {limit, windows: [{key, start_ms, end_ms}]} | absent
--   in_flight         limit | absent
--   fields, entry     flat arrays of names and values: the record, and its line in the ledger
-- Returns
--   {'admitted', {window keys}, {spent, held, topped up ..}, {remaining, reset_ms of each rate ..}}
--   {'over_budget', index of the budget, its window key, spent, held, limit}
--   {'too_fast', index of the rate, wait_ms}
--   {'day_used', used, reset_ms}       {'in_flight', images in flight}
--   {'stale'}  the account has changed since the caller was read
--   {'late'}  {'given_up'}  {'no_window'}
-- Idempotent by task id: repeating it on an admitted task changes nothing and answers the same.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/quotas.lua

local task_key, live_key, tombstone_key = KEYS[1], KEYS[2], KEYS[3]
local account_key, in_flight_key, ledger_key = KEYS[4], KEYS[5], KEYS[6]
local sums = {months = {KEYS[7], KEYS[8]}, total = KEYS[9]}
local order = cjson.decode(ARGV[1])

local function admitted(window_keys, rates)
  local told = {}
  for _, rate in ipairs(rates) do
    told[#told + 1] = rate.remaining
    told[#told + 1] = rate.reset_ms
  end
  return {'admitted', window_keys, balances(window_keys), told}
end

local known = redis.call('HGET', task_key, 'windows')
if known then
  return admitted(cjson.decode(known), {})
end
local now_ms = store_now_ms()
if not order.anew then
  if redis.call('EXISTS', tombstone_key) == 1 then
    return {'given_up'}
  end
  if now_ms > order.admit_by_ms then
    return {'late'}
  end
  if (redis.call('HGET', account_key, 'version') or '') ~= order.account_version then
    return {'stale'}
  end
end

for index, rate in ipairs(order.rates) do
  local wait_ms = check_rate(rate, now_ms)
  if wait_ms > 0 then
    return {'too_fast', index, wait_ms}
  end
end

if order.in_flight then
  local images = 0
  for _, score in ipairs(redis.call('ZRANGE', in_flight_key, 0, -1, 'WITHSCORES')) do
    images = images + (tonumber(score) or 0)
  end
  if images + order.images > order.in_flight then
    return {'in_flight', images}
  end
end

local today = nil
if order.day then
  today = window_at(order.day.windows, now_ms)
  if not today then
    return {'no_window'}
  end
  local used = tonumber(redis.call('GET', today.key) or '0')
  if used + order.images > order.day.limit then
    return {'day_used', used, today.end_ms}
  end
end

local chosen, window_keys = {}, {}
for index, budget in ipairs(order.budgets) do
  -- A hold that is written anew goes back to its own windows, whatever the calendar says by now.
  local window = order.anew and budget.windows[1] or window_at(budget.windows, now_ms)
  if not window then
    return {'no_window'}
  end
  chosen[index] = window
  window_keys[index] = window.key
end
local refusing = check_budgets(
  order.budgets, chosen, order.amount, order.anew, now_ms, sums, ledger_key)
if refusing then
  local window = chosen[refusing]
  return {'over_budget', refusing, window.key, window.spent, window.held, window.limit}
end

reserve(chosen, order.amount)
for _, rate in ipairs(order.rates) do
  take_rate(rate, now_ms)
end
if today then
  redis.call('INCRBY', today.key, order.images)
  redis.call('PEXPIREAT', today.key, int(today.end_ms + 86400000))
end
-- cjson writes an empty table as an object.
local windows_json = #window_keys == 0 and '[]' or cjson.encode(window_keys)
redis.call('HSET', task_key, 'windows', windows_json, unpack(order.fields))
redis.call('ZADD', live_key, int(order.created_ms), order.id)
redis.call('ZADD', in_flight_key, order.images, order.id)
redis.call('XADD', ledger_key, '*', 'verb', 'hold', 'op', order.id .. ':hold', 'task', order.id,
  'amount', int(order.amount), 'windows', windows_json, unpack(order.entry))
return admitted(window_keys, order.rates)
