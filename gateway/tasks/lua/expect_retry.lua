#!lua flags=allow-oom
-- expect_retry: note that a call was sent away before anybody looked whether it is a retry.
--
-- KEYS[1]  refusals of the call (hash)
-- ARGV[1]  count of the call that was sent away
-- Returns  nothing. Not idempotent: a repetition lets one retry more be a new call.
-- include: tasks/lua/calls.lua

expect_retry_unseen({refused = KEYS[1]}, tonumber(ARGV[1]))
