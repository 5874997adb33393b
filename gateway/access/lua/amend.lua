#!lua flags=allow-oom
-- amend: change one field of a team's account, if the account still is what the change was made
-- from; bump its version and write down who changed what.
--
-- KEYS[1]   account of the team (hash)
-- KEYS[2]   audit of the team (stream)
-- ARGV[1]   version the change was made from, '' for no account
-- ARGV[2]   field: 'team' or 'key:<name>'
-- ARGV[3]   its new text
-- ARGV[4..] audit entry, names and values in turn; never a key or a digest of one
-- Returns {'done', new version} | {'moved', version it has}
-- Repeating it changes nothing: the version has moved.
--
-- A version is the store's time in milliseconds, or one more than the last. A store that lost its
-- newest writes (failover) therefore never gives the number of a lost change to another one.

local account_key, audit_key = KEYS[1], KEYS[2]
local version_read, field, text = ARGV[1], ARGV[2], ARGV[3]

local version = redis.call('HGET', account_key, 'version') or ''
if version ~= version_read then
  return {'moved', version}
end
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local bumped = string.format('%d', math.max(now_ms, (tonumber(version) or 0) + 1))
redis.call('HSET', account_key, 'version', bumped, field, text)
redis.call('XADD', audit_key, '*', 'version', bumped, unpack(ARGV, 4))
return {'done', bumped}
