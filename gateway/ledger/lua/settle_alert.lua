#!lua flags=allow-oom
-- settle_alert: write down how an announcement went.
--
-- KEYS[1]  mark of the announcement (hash)
-- ARGV[1]  replica that tried
-- ARGV[2]  'delivered', or 'failed'
-- ARGV[3]  when it failed: ms until anybody may try again
-- ARGV[4]  when the mark may go (Unix ms), '' for never
-- Returns  {'done'} | {'moved'} when somebody else has it by now, and the failure counts for nothing
-- Idempotent. That it was delivered is a fact and taken from anybody.
-- Runs without memory to spare: what was said once must not be said again.

local mark_key = KEYS[1]
local replica, outcome, wait_ms, expires_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

if outcome == 'delivered' then
  redis.call('DEL', mark_key)
  redis.call('HSET', mark_key, 'state', 'delivered')
  if expires_ms ~= '' then
    redis.call('PEXPIREAT', mark_key, expires_ms)
  end
  return {'done'}
end
local mark = redis.call('HMGET', mark_key, 'state', 'replica')
if mark[1] ~= 'claimed' or mark[2] ~= replica then
  return {'moved'}
end
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('HSET', mark_key, 'state', 'waiting', 'until_ms', string.format('%d', now_ms + wait_ms))
return {'done'}
