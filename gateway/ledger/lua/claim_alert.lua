#!lua
-- claim_alert: take it on to announce something about a budget, which one replica does at a time.
--
-- KEYS[1]  mark of the announcement (hash): state, and while it is not delivered until_ms and tries
-- ARGV[1]  replica that asks
-- ARGV[2]  how long it has for it, ms; after that another replica may
-- ARGV[3]  when the mark may go (Unix ms), '' for never
-- Returns  {'claimed', tries, this one among them}
--          {'taken', ms until it may be claimed} | {'delivered'}
-- Idempotent by replica: whoever has it and asks again (the answer was lost) is told the same.

local mark_key = KEYS[1]
local replica, lease_ms, expires_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local mark = redis.call('HMGET', mark_key, 'state', 'replica', 'until_ms', 'tries')
local state, holder, until_ms, tries = unpack(mark)
if state == 'delivered' then
  return {'delivered'}
end
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if state and now_ms < tonumber(until_ms) then
  if state == 'claimed' and holder == replica then
    return {'claimed', tonumber(tries)}
  end
  return {'taken', tonumber(until_ms) - now_ms}
end
local count = tonumber(tries or '0') + 1
redis.call('HSET', mark_key, 'state', 'claimed', 'replica', replica, 'tries', count,
  'until_ms', string.format('%d', now_ms + lease_ms))
if expires_ms ~= '' then
  redis.call('PEXPIREAT', mark_key, expires_ms)
end
return {'claimed', count}
