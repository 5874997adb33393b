#!lua flags=allow-oom
-- organization_forget: let holds expire that are over and of which the team's outbox has nothing.
--
-- KEYS[1]    holds that are over (sorted set)
-- KEYS[i+1]  hold of a task (hash)
-- ARGV[1]    how long they are still remembered, ms
-- ARGV[2i]   member of that task in the sorted set
-- ARGV[2i+1] its score when it was looked at; with another one it stays
-- Returns    how many were let go. Idempotent.

local forgotten = 0
for index = 2, #KEYS do
  local member, score = ARGV[2 * index - 2], ARGV[2 * index - 1]
  if redis.call('ZSCORE', KEYS[1], member) == score then
    redis.call('PEXPIRE', KEYS[index], ARGV[1])
    redis.call('ZREM', KEYS[1], member)
    forgotten = forgotten + 1
  end
end
return forgotten
