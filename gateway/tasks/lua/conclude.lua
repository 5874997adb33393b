#!lua flags=allow-oom
-- conclude: end one render and its money in one step: settle what it cost or release its hold.
--
-- KEYS[1]    task record (hash)
-- KEYS[2]    in-flight set of the team (sorted set)
-- KEYS[3]    ledger of the team (stream)
-- KEYS[4]    rollup of the task's day (hash)
-- KEYS[5]    sums of what was spent in the task's month (hash)
-- KEYS[6]    sums of what was ever spent (hash)
-- KEYS[7,8,9]  tasks of this call, orphans among them, its refusals (sorted sets)
-- KEYS[10]   outbox of the team: what the organization is to be told (hash)
-- KEYS[11,12,13]  pictures of the team that nobody has fetched (hash, sorted sets)
-- KEYS[14..] the windows the caller knows the hold to be taken from: their balances are answered
-- ARGV[1]    order, JSON:
--   id, created_ms, index, epoch and owner (must match), from (comma-separated states), to (state), verb
--   op                of the ledger's line
--   live              prefix of the keys of tasks by who has to see to them
--   cost              micro-dollars to book; 0 releases the hold
--   fetch             true when there is a picture to be stored yet
--   replay            true when a retry is answered with this end, false when it is a new call
--   keep_ms           how long the record is kept from the task's end
--   now_ms            the gateway's clock
--   bucket_ms         quarter of an hour the task was admitted in
--   owners            ["team|", "key|<name>", ..]: whose sums the cost goes to
--   tells             true when the organization is told of what is spent
--   rollups           flat array of rollup fields and integers to add
--   fields            table of what to write, without the render's prefix
--   entry             flat array of names and values of the ledger's line
--   outbox            field and value of its entry there
--   prompt            key, prompt, and how long it is kept (ms) | absent when it is not
-- Returns  {'done', cost booked, {spent, held, topped up, ..} of each window, who watches}
--          {'missing'} | {'fenced'} | {'illegal', state}
-- Idempotent: once the hold is gone nothing moves any more, and the booked cost is answered.
-- Runs without memory to spare: giving money back must never wait for room.
-- include: ledger/lua/budgets.lua
-- include: tasks/lua/in_flight.lua
-- include: tasks/lua/calls.lua
-- include: tasks/lua/unfetched.lua
-- include: ledger/lua/untold.lua

local task_key, in_flight_key, ledger_key = KEYS[1], KEYS[2], KEYS[3]
local rollup_key, month_key, total_key = KEYS[4], KEYS[5], KEYS[6]
local places = {calls = KEYS[7], orphans = KEYS[8], refused = KEYS[9]}
local unfetched = {paid = KEYS[11], ends = KEYS[12], awaited = KEYS[13]}
local order = cjson.decode(ARGV[1])
local ROLLUP_KEEP_MS = 400 * 86400000
local prefix = string.format('%d:', order.index)

local window_keys = {}
for index = 14, #KEYS do
  window_keys[#window_keys + 1] = KEYS[index]
end

local record = redis.call('HMGET', task_key, prefix .. 'state', 'epoch', prefix .. 'hold',
  prefix .. 'cost', 'windows', 'watchers', 'count', 'owner', 'purse', 'subject')
local state, epoch, hold, booked, windows_json, watchers, count, owner = unpack(record)
local in_purse, subject = unpack(record, 9)
if not state then
  return {'missing'}
end
if booked then
  return {'done', tonumber(booked), balances(window_keys), watchers or ''}
end
if order.epoch ~= epoch or order.owner ~= owner then
  return {'fenced'}
end
if not string.find(',' .. order.from .. ',', ',' .. state .. ',', 1, true) then
  return {'illegal', state}
end

local cost = order.cost
-- The record may know of a window that was opened since.
settle(cjson.decode(windows_json), tonumber(hold), cost)
redis.call('XADD', ledger_key, '*', 'verb', order.verb, 'op', order.op, 'task', order.id,
  'hold', hold, 'cost', int(cost), 'windows', windows_json, unpack(order.entry))
-- What the organization holds for a task is given back by its entry, whatever the settings say now.
local is_told = order.tells or in_purse
if cost > 0 then
  if not is_told then
    table.insert(order.owners, UNTOLD)
  end
  for _, name in ipairs(order.owners) do
    redis.call('HINCRBY', month_key, int(order.bucket_ms) .. '|' .. name, int(cost))
    redis.call('HINCRBY', total_key, name, int(cost))
  end
  redis.call('PEXPIRE', month_key, int(SUMS_KEEP_MS))
end
for index = 1, #order.rollups, 2 do
  redis.call('HINCRBY', rollup_key, order.rollups[index], int(order.rollups[index + 1]))
end
if #order.rollups > 0 then
  redis.call('PEXPIRE', rollup_key, int(ROLLUP_KEEP_MS))
end

local written = {prefix .. 'state', order.to, prefix .. 'cost', int(cost)}
if is_told then
  redis.call('HSET', KEYS[10], order.outbox[1], order.outbox[2])
  written[#written + 1] = prefix .. 'told'
  written[#written + 1] = '1'
end
for name, value in pairs(order.fields) do
  written[#written + 1] = prefix .. name
  written[#written + 1] = value
end
redis.call('HSET', task_key, unpack(written))
redis.call('HDEL', task_key, prefix .. 'urls')
redis.call('HINCRBY', task_key, 'version', 1)
if order.fetch then
  redis.call('HINCRBY', task_key, 'unstored', 1)
  local paid = redis.call('HINCRBY', task_key, 'paid', int(cost))
  local alone = redis.call('HMGET', task_key, 'left', 'detached')
  -- Of a task that has changed hands nobody knows whether its request is still there.
  local is_alone = alone[1] or alone[2] == '1' or epoch ~= '1'
  if paid > 0 then
    local count = is_alone and count_unfetched or await_fetch
    count(unfetched, order.id, paid, order.now_ms, order.keep_ms)
  end
end
if order.replay then
  redis.call('HSET', task_key, 'replay', '1')
end
redis.call('ZINCRBY', in_flight_key, -1, order.id)
if redis.call('HINCRBY', task_key, 'open', -1) > 0 then
  return {'done', cost, balances(window_keys), watchers or ''}
end

-- That was the last render. The order carries the prompt; nothing can be submitted any more.
leave_flight(in_flight_key, order.id, subject)
redis.call('HSET', task_key, 'ended_ms', int(order.now_ms))
redis.call('HDEL', task_key, 'order', 'files')
if order.prompt then
  redis.call('SET', order.prompt[1], order.prompt[2], 'PX', int(order.prompt[3]))
end
redis.call('PEXPIRE', task_key, int(order.keep_ms))
local ending = redis.call('HMGET', task_key, 'unstored', 'replay', 'keyed')
if tonumber(ending[1] or '0') < 1 then
  redis.call('ZREM', order.live .. owner, order.id)
end
if not ending[2] then
  -- The retry that this answer brings must not be taken for another call's.
  forget(places, order.created_ms, order.id)
  expect_retry(places, tonumber(count or '0') + 1, order.id)
  if ending[3] then
    redis.call('DEL', ending[3])
  end
end
return {'done', cost, balances(window_keys), watchers or ''}
