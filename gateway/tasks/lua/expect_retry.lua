#!lua flags=allow-oom
-- expect_retry: note that a call was sent away before anybody looked whether it is a retry.
--
-- KEYS[1]  refusals of the call (sorted set)
-- ARGV[1]  count of the call that was sent away
-- ARGV[2]  its request
-- Returns  nothing. Idempotent by the request, until the retry has come.
-- include: tasks/lua/calls.lua

expect_retry_unseen({refused = KEYS[1]}, tonumber(ARGV[1]), ARGV[2])
