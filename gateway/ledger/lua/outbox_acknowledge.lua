#!lua flags=allow-oom
-- outbox_acknowledge: take away what the organization has been told.
--
-- KEYS[1]  outbox of the team (hash)
-- ARGV     fields and what each of them said, in turn
-- Returns  how many went. Idempotent: a field that says something else by now stays.

local gone = 0
for index = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[index]) == ARGV[index + 1] then
    gone = gone + redis.call('HDEL', KEYS[1], ARGV[index])
  end
end
return gone
