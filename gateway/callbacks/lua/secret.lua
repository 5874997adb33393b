#!lua flags=allow-oom
-- secret: what a team's callbacks are signed with; made when there is none, or replaced.
--
-- KEYS[1]  secrets of the team (hash): secret, rotation, former, former_until_ms
-- KEYS[2]  audit of the team (stream)
-- ARGV[1]  a fresh secret, taken when there is none or when it replaces one
-- ARGV[2]  operation id of a replacement; '' only reads, or makes the first
-- ARGV[3]  now, Unix ms
-- ARGV[4]  how long the former one goes on signing too, ms
-- ARGV[5]  who replaces it, or makes the first by replacing none
-- Returns  {secret, former or ''}
-- Idempotent: what is there is not made again, and a replacement counts once by its operation id.

local secret_key, audit_key = KEYS[1], KEYS[2]
local fresh, rotation, now_ms, grace_ms, who = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local function audit(what)
  redis.call('XADD', audit_key, '*', 'version', '', 'who', who, 'what', what,
    'key', '', 'before', '', 'after', '')
end

local secret, former, former_until_ms, rotated =
  unpack(redis.call('HMGET', secret_key, 'secret', 'former', 'former_until_ms', 'rotation'))
if not secret then
  redis.call('HSET', secret_key, 'secret', fresh, 'rotation', rotation)
  secret = fresh
  if rotation ~= '' then
    audit('create_webhook_secret')
  end
elseif rotation ~= '' and rotation ~= rotated then
  former, former_until_ms, secret = secret, now_ms + grace_ms, fresh
  redis.call('HSET', secret_key, 'secret', secret, 'rotation', rotation,
    'former', former, 'former_until_ms', string.format('%d', former_until_ms))
  audit('rotate_webhook_secret')
end
if not former or tonumber(former_until_ms) <= now_ms then
  former = ''
end
return {secret, former}
