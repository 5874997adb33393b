#!lua flags=allow-oom
-- outbox_gather: turn what the organization was never told of into one entry of the outbox.
--
-- KEYS[1]  outbox of the team (hash)
-- KEYS[2]  sums of what was ever spent (hash)
-- KEYS[3]  sums of what was spent in the month before (hash), KEYS[4] those of this month
-- ARGV[1]  team
-- ARGV[2]  when the month before began, ARGV[3] when this one did, ARGV[4] when the next one does (Unix ms)
-- Returns  how much is in the entry, micro-dollars; 0 when there was nothing, and it was not written
-- What was spent before those months is told as one sum. What is in an entry is no more in the sums.
-- include: ledger/lua/budgets.lua
-- include: ledger/lua/untold.lua

local outbox_key, total_key = KEYS[1], KEYS[2]
local total = tonumber(redis.call('HGET', total_key, UNTOLD) or '0')
if total == 0 then
  return 0
end
-- Named as a part of a task of its own; a name never comes twice.
local now = redis.call('TIME')
local field = string.format('untold_%s_%d%06d:spent', ARGV[1], tonumber(now[1]), tonumber(now[2]))
if redis.call('HEXISTS', outbox_key, field) == 1 then
  return 0
end

local buckets, older = {}, total
for month = 1, 2 do
  local key, from_ms, until_ms = KEYS[month + 2], tonumber(ARGV[month + 1]), tonumber(ARGV[month + 2])
  for first_ms = from_ms, until_ms - 1, 1000 * BUCKET_MS do
    local names = {}
    for bucket_ms = first_ms, math.min(first_ms + 999 * BUCKET_MS, until_ms - 1), BUCKET_MS do
      names[#names + 1] = int(bucket_ms) .. '|' .. UNTOLD
    end
    for index, value in ipairs(redis.call('HMGET', key, unpack(names))) do
      if value then
        buckets[#buckets + 1] = string.format('[%d,%s]', first_ms + (index - 1) * BUCKET_MS, value)
        older = older - tonumber(value)
        redis.call('HDEL', key, names[index])
      end
    end
  end
end
redis.call('HDEL', total_key, UNTOLD)
redis.call('HSET', outbox_key, field,
  '{"untold":[' .. table.concat(buckets, ',') .. '],"older":' .. int(older) .. '}')
return total
