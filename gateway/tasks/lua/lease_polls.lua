#!lua
-- lease_polls: give one replica times for its next polls of an account that all replicas share.
--
-- The account's polls stand in a row, 1 / rate apart (GCRA), and no time is given away further ahead
-- than the horizon. Of several replicas that want polls each gets its part by what it wants: it has
-- a row of its own, at its part of the rate, and is given what both rows allow.
--
-- KEYS[1]  poll rate of the account (hash): 'next_ms'; for each replica 'want:', 'at:', 'next:'
-- ARGV[1]  replica
-- ARGV[2]  polls it wants in its next moment, 0 or more
-- ARGV[3]  polls per second of the account
-- ARGV[4]  horizon, ms
-- ARGV[5]  how long a replica that says nothing counts, ms
-- Returns  {polls given, ms until the first of them (text), replicas that count}
-- Not idempotent: a repetition is given further polls, and those before go unused.

local key = KEYS[1]
local replica, wanted, rate = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local horizon_ms, fresh_ms = tonumber(ARGV[4]), tonumber(ARGV[5])

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

redis.call('HSET', key, 'want:' .. replica, wanted, 'at:' .. replica, string.format('%.3f', now_ms))

local fields, all_wanted, replicas = {}, 0, 0
local stored = redis.call('HGETALL', key)
for index = 1, #stored, 2 do
  fields[stored[index]] = stored[index + 1]
end
for name, value in pairs(fields) do
  local other = string.match(name, '^at:(.*)$')
  if other then
    if now_ms - tonumber(value) > fresh_ms then
      redis.call('HDEL', key, 'at:' .. other, 'want:' .. other, 'next:' .. other)
    else
      replicas = replicas + 1
      all_wanted = all_wanted + tonumber(fields['want:' .. other] or '0')
    end
  end
end

-- How many polls fit into a row before the horizon, the first of them at `next_ms`.
local function fitting(next_ms, row_rate)
  if next_ms > now_ms + horizon_ms then
    return 0
  end
  return math.floor((now_ms + horizon_ms - next_ms) * row_rate / 1000) + 1
end

local given, first_ms = 0, now_ms
if wanted > 0 then
  local part = rate * wanted / all_wanted
  local own_ms = math.max(now_ms, tonumber(fields['next:' .. replica] or '0'))
  first_ms = math.max(now_ms, tonumber(fields['next_ms'] or '0'))
  given = math.min(wanted, fitting(first_ms, rate), fitting(own_ms, part))
  if given > 0 then
    -- A part that is tiny now may be all of it soon: a row is never blocked for long.
    local own_next_ms = math.min(own_ms + given * 1000 / part, now_ms + 2 * horizon_ms)
    redis.call('HSET', key, 'next_ms', string.format('%.3f', first_ms + given * 1000 / rate),
      'next:' .. replica, string.format('%.3f', own_next_ms))
  end
end
redis.call('PEXPIRE', key, 60000)
return {given, string.format('%.3f', first_ms - now_ms), replicas}
