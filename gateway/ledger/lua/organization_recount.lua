#!lua flags=allow-oom
-- organization_recount: let windows of budgets that have come back know what was spent without them.
--
-- KEYS[1]    ledger of the organization (stream)
-- KEYS[2,3]  sums of what was spent, last month's and this month's (hashes)
-- KEYS[4]    sum of what was ever spent (hash)
-- KEYS[5..]  every window named in the order
-- ARGV[1]    JSON: [{scope, owner, windows: [{key, start_ms, end_ms|absent}]}]
-- Returns  'done'. Idempotent. Windows that are not opened yet start from the sums anyway.
-- include: ledger/lua/budgets.lua

local sums = {months = {KEYS[2], KEYS[3]}, total = KEYS[4]}
local now_ms = store_now_ms()
for _, budget in ipairs(cjson.decode(ARGV[1])) do
  for _, window in ipairs(budget.windows) do
    recount_window(budget, window, now_ms, sums, KEYS[1])
  end
end
return 'done'
