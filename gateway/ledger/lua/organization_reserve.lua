#!lua
-- organization_reserve: hold a call's price in every budget of the organization, or in none.
--
-- KEYS[1]    hold of the task (hash)
-- KEYS[2]    open holds (sorted set)
-- KEYS[3]    holds that are over (sorted set)
-- KEYS[4]    ledger of the organization (stream)
-- KEYS[5,6]  sums of what was spent, last month's and this month's (hashes)
-- KEYS[7]    sum of what was ever spent (hash)
-- KEYS[8..]  every window named in the order
-- ARGV[1]    order, JSON:
--   id, team, amount (micro-dollars), admit_by_ms (by the store's clock)
--   anew       true to hold a task's money again that was lost, or to hold it in windows of budgets
--              that came after it, too: nothing refuses it
--   parts      {part: its share of the amount}, with anew; those that are settled hold nothing
--   budgets    [{scope, owner, limit, windows: [{key, start_ms, end_ms|absent}]}]
-- Returns
--   {'held', {window keys}, {spent, held, topped up ..}}, the latter empty when it has been held
--       before, in other windows than were named
--   {'over_budget', its window key, spent, held, limit}
--   {'late'}  {'given_up'}  {'no_window'}
-- Idempotent by task id; a task whose hold is over never gets another one, but for `anew`.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/organization.lua

local hold_key, holds_key, settled_key, ledger_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sums = {months = {KEYS[5], KEYS[6]}, total = KEYS[7]}
local order = cjson.decode(ARGV[1])

local known = redis.call('HMGET', hold_key, 'state', 'windows', 'open')
if known[1] == 'held' then
  local window_keys = cjson.decode(known[2])
  if order.anew then
    local theirs, keys = {}, {}
    for index, budget in ipairs(order.budgets) do
      theirs[index] = budget.windows[1]
      keys[index] = theirs[index].key
    end
    check_budgets(order.budgets, theirs, 0, true, store_now_ms(), sums, ledger_key)
    window_keys = widen(
      hold_key, ledger_key, order.id, order.team, tonumber(known[3]), window_keys, keys)
  end
  -- A script touches no key that was not named to it.
  return {'held', window_keys, all_named(window_keys, 8) and balances(window_keys) or {}}
end
local now_ms = store_now_ms()
if not order.anew then
  if known[1] then
    return {'given_up'}
  end
  if now_ms > order.admit_by_ms then
    return {'late'}
  end
end
local amount = order.amount
for part, share in pairs(order.parts) do
  if redis.call('HEXISTS', hold_key, 'part|' .. part) == 1 then
    amount = amount - share
  end
end
if order.anew and amount == 0 then
  return {'held', {}, {}}
end

local chosen, window_keys = {}, {}
for index, budget in ipairs(order.budgets) do
  local window = order.anew and budget.windows[1] or window_at(budget.windows, now_ms)
  if not window then
    return {'no_window'}
  end
  chosen[index] = window
  window_keys[index] = window.key
end
local refusing = check_budgets(
  order.budgets, chosen, amount, order.anew, now_ms, sums, ledger_key)
if refusing then
  local window = chosen[refusing]
  return {'over_budget', window.key, window.spent, window.held, window.limit}
end

-- What was raised before was given back with the hold that is over.
for _, field in ipairs(known[1] and redis.call('HKEYS', hold_key) or {}) do
  if string.sub(field, 1, 6) == 'raise|' then
    redis.call('HDEL', hold_key, field)
  end
end
reserve(chosen, amount)
local windows_json = write_json_list(window_keys)
redis.call('HSET', hold_key, 'state', 'held', 'team', order.team, 'open', int(amount),
  'windows', windows_json)
redis.call('PERSIST', hold_key)
local member = order.team .. ':' .. order.id
redis.call('ZADD', holds_key, int(order.admit_by_ms), member)
redis.call('ZREM', settled_key, member)
redis.call('XADD', ledger_key, '*', 'verb', 'hold', 'op', order.id .. ':hold', 'task', order.id,
  'of_team', order.team, 'amount', int(amount), 'windows', windows_json)
return {'held', window_keys, balances(window_keys)}
