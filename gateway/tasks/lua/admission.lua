-- Fragment: attach a call to the task it is a retry of; or check every limit and take them all at
-- once: its price from each budget, its place in each quota; and write its task. Or do none of it.
-- All of `admit`, and of `readmit`, which differ in whether they run without memory to spare.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    tasks its owner has to see to (sorted set)
-- KEYS[3]    tombstone of the task id
-- KEYS[4]    account of the team (hash)
-- KEYS[5]    in-flight set of the team (sorted set of task ids by images)
-- KEYS[6]    ledger of the team (stream)
-- KEYS[7,8]  sums of what was spent, last month's and this month's (hashes)
-- KEYS[9]    sums of what was ever spent (hash)
-- KEYS[10]   replicas that see to tasks of the team (set)
-- KEYS[11]   all tasks of the team (sorted set)
-- KEYS[12,13,14]  tasks of this call, orphans among them, its refusals (sorted sets)
-- KEYS[15]   what its Idempotency-Key stands for (hash)
-- KEYS[16]   when each replica last had a request wait for a task of this call (hash)
-- KEYS[17]   price book that the task names (string)
-- KEYS[18..] every budget window, rate, day counter and list of windows named in the order
-- ARGV[1]    order, JSON:
--   id, owner, amount (micro-dollars of each render), renders (how many), images
--   subject           hash of the end user the call names, '' for none
--   created_ms, admit_by_ms (by the store's clock), list_from_ms (older tasks are off the list)
--   account_version   version of the account the caller was read at, '' for none
--   anew              true to write a lost record again: no limit, tombstone or time refuses it
--   enter             true when retries of the call may find the task; told for a lost record only
--   budgets           [{limit, scope, owner, windows: [{key, start_ms, end_ms|absent, facts}]}];
--                     facts is the window as JSON text, for whoever takes the task over
--   opened            {scope: key of the windows of it that were opened and are not over}
--   rates             [{key, limit, units}] per minute
--   day               {limit, windows: [{key, start_ms, end_ms}]} | absent
--   in_flight         limit | absent; in_flight_retry_ms, what a caller above it is told to wait
--   only_join         true for a call that must not become a task of its own
--   book              {text, keep_ms}, the price book to be written with the task | absent
--   call              see calls.lua
--   fields            flat array of names and values: the record
--   entries           arrays of names and values: the ledger's line of each render's hold
-- Returns
--   {'admitted', facts of windows, {spent, held, topped up ..}, {remaining, reset_ms of each rate ..}}
--   {'joined', task id, trace of its first call ('' is none)}
--   {'conflict'}  another call under its key    {'expired'}
--   {'over_budget', index of the budget, facts of its window, spent, held, limit}
--   {'too_fast', index of the rate, wait_ms}
--   {'day_used', used, reset_ms}       {'in_flight', images in flight}
--   {'not_joined'}  it may only join, and there is nothing to join
--   {'stale'}  the account has changed since the caller was read
--   {'late'}  {'given_up'}  {'no_window'}
-- Idempotent by task id: repeating it on an admitted task changes nothing and answers the same.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/quotas.lua
-- include: tasks/lua/widening.lua
-- include: tasks/lua/calls.lua

local task_key, live_key, tombstone_key = KEYS[1], KEYS[2], KEYS[3]
local account_key, in_flight_key, ledger_key = KEYS[4], KEYS[5], KEYS[6]
local sums = {months = {KEYS[7], KEYS[8]}, total = KEYS[9]}
local owners_key, tasks_key = KEYS[10], KEYS[11]
local places = {
  calls = KEYS[12], orphans = KEYS[13], refused = KEYS[14], keyed = KEYS[15], waits = KEYS[16]}
local book_key = KEYS[17]
local order = cjson.decode(ARGV[1])

local function admitted(facts, window_keys, rates)
  local told = {}
  for _, rate in ipairs(rates) do
    told[#told + 1] = rate.remaining
    told[#told + 1] = rate.reset_ms
  end
  return {'admitted', facts, balances(window_keys), told}
end

local known = redis.call('HMGET', task_key, 'windows', 'held')
if known[1] then
  return admitted(known[2], cjson.decode(known[1]), {})
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
  local answer = join(order.call, places, now_ms)
  if answer then
    return answer
  end
  if order.only_join then
    return {'not_joined'}
  end
end

for index, rate in ipairs(order.rates) do
  local wait_ms = check_rate(rate, now_ms)
  if wait_ms > 0 then
    come_back(order.call, places, wait_ms, order.id)
    return {'too_fast', index, wait_ms}
  end
end

if order.in_flight then
  local images = 0
  for _, score in ipairs(redis.call('ZRANGE', in_flight_key, 0, -1, 'WITHSCORES')) do
    images = images + (tonumber(score) or 0)
  end
  if images + order.images > order.in_flight then
    come_back(order.call, places, order.in_flight_retry_ms, order.id)
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

local chosen, window_keys, window_facts = {}, {}, {}
for index, budget in ipairs(order.budgets) do
  -- A hold that is written anew goes back to its own windows, whatever the calendar says by now.
  local window = order.anew and budget.windows[1] or window_at(budget.windows, now_ms)
  if not window then
    return {'no_window'}
  end
  chosen[index] = window
  window_keys[index] = window.key
  window_facts[index] = window.facts
end
local amount = order.amount * order.renders
local team = {
  in_flight = in_flight_key, tasks = tasks_key, ledger = ledger_key,
  prefix = string.sub(task_key, 1, -#order.id - 1), list_from_ms = order.list_from_ms}
local refusing = check_budgets(
  order.budgets, chosen, amount, order.anew, now_ms, sums, ledger_key, function(budget, window)
    hold_under_way(budget, window, team)
    note_opened(order.opened[budget.scope], window, now_ms)
  end)
if refusing then
  local window = chosen[refusing]
  return {'over_budget', refusing, window.facts, window.spent, window.held, window.limit}
end

reserve(chosen, amount)
local facts_json = '[' .. table.concat(window_facts, ',') .. ']'
local answer = admitted(facts_json, window_keys, order.rates)
local opened_keys = {}
for _, key in pairs(order.opened) do
  opened_keys[#opened_keys + 1] = key
end
local at_ms = order.anew and order.created_ms or now_ms
for _, window in ipairs(opened_elsewhere(opened_keys, window_keys, facts_json, at_ms)) do
  redis.call('HINCRBY', window.key, 'held', int(amount))
  window_keys[#window_keys + 1] = window.key
  facts_json = appended(facts_json, window.facts)
end
for _, rate in ipairs(order.rates) do
  take_rate(rate, now_ms)
end
if today then
  redis.call('INCRBY', today.key, order.images)
  redis.call('PEXPIREAT', today.key, int(today.end_ms + 86400000))
end
-- cjson writes an empty table as an object.
local windows_json = #window_keys == 0 and '[]' or cjson.encode(window_keys)
redis.call('HSET', task_key, 'windows', windows_json, 'held', facts_json, unpack(order.fields))
if order.book then
  redis.call('SET', book_key, order.book.text, 'PX', int(order.book.keep_ms))
end
redis.call('ZADD', live_key, int(order.created_ms), order.id)
redis.call('SADD', owners_key, order.owner)
enter_flight(in_flight_key, order.id, order.images, order.subject)
redis.call('ZADD', tasks_key, int(order.created_ms), order.id)
redis.call('ZREMRANGEBYSCORE', tasks_key, '-inf', '(' .. int(order.list_from_ms))
for _, entry in ipairs(order.entries) do
  redis.call('XADD', ledger_key, '*', 'verb', 'hold', 'task', order.id,
    'amount', int(order.amount), 'windows', windows_json, unpack(entry))
end
if not order.anew or order.enter then
  enter(order.call, places, order.id, order.created_ms, now_ms)
end
return answer
