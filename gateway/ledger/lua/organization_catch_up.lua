#!lua flags=allow-oom
-- organization_catch_up: book what a team spent while nobody told the organization of it.
--
-- KEYS[1]    mark of this entry, as if it were a task's hold (hash)
-- KEYS[2]    holds that are over (sorted set)
-- KEYS[3]    ledger of the organization (stream)
-- KEYS[4]    sum of what was ever spent (hash)
-- KEYS[5..]  sums of months, as the order counts them; then the windows of the order
-- ARGV[1]    order, JSON:
--   id, team
--   apply_by_ms  by the store's clock: what was read longer ago may have been done and forgotten
--   owner      name of the sums
--   months     how many of the keys are sums of months
--   spent      [[start of a quarter of an hour (ms), which month, micro-dollars], ..]; what was
--              spent before those months is at 0, and in no month
--   windows    [{key, start_ms, end_ms|absent}]: those that calls may be admitted in by now
-- Returns  'done' | 'late'
-- Idempotent by id. Windows that are not opened yet start from the sums.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/organization.lua

local hold_key, settled_key, ledger_key, total_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local order = cjson.decode(ARGV[1])

if redis.call('HEXISTS', hold_key, 'part|spent') == 1 then
  return 'done'
end
local now_ms = store_now_ms()
if now_ms > order.apply_by_ms then
  return 'late'
end

local open = {}
for _, window in ipairs(order.windows) do
  if redis.call('HEXISTS', window.key, 'spent') == 1 then
    open[#open + 1] = window
  end
end
-- A ledger's line changes all its windows by the same amount: one for all that counts in the same.
local lines, by_windows = {}, {}
for _, spent in ipairs(order.spent) do
  local at_ms, month, cost = spent[1], spent[2], spent[3]
  local window_keys = {}
  for _, window in ipairs(open) do
    if window_at({window}, at_ms) then
      window_keys[#window_keys + 1] = window.key
    end
  end
  local name = table.concat(window_keys, ' ')
  local line = by_windows[name]
  if not line then
    line = {window_keys = window_keys, cost = 0, created_ms = at_ms}
    by_windows[name] = line
    lines[#lines + 1] = line
  end
  line.cost = line.cost + cost
  if month > 0 then
    redis.call('HINCRBY', KEYS[4 + month], int(at_ms) .. '|' .. order.owner, int(cost))
  end
  redis.call('HINCRBY', total_key, order.owner, int(cost))
end
for month = 1, order.months do
  redis.call('PEXPIRE', KEYS[4 + month], int(SUMS_KEEP_MS))
end
for index, line in ipairs(lines) do
  settle(line.window_keys, 0, line.cost)
  redis.call('XADD', ledger_key, '*', 'verb', 'part', 'op', order.id .. ':part:' .. int(index),
    'task', order.id, 'part', int(index), 'of_team', order.team, 'hold', '0',
    'cost', int(line.cost), 'windows', write_json_list(line.window_keys),
    'created_ms', int(line.created_ms))
end
redis.call('HSET', hold_key, 'team', order.team, 'state', 'over', 'open', '0', 'part|spent', '1')
redis.call('ZADD', settled_key, int(now_ms), order.team .. ':' .. order.id)
return 'done'
