#!lua flags=allow-oom
-- expect_retry: note that a call was sent away before it was a task: its retry is a new call.
--
-- KEYS[1]  refusals of the call (hash)
-- ARGV[1]  count of the retry that is to be expected
-- Returns  nothing. Not idempotent: a repetition lets one retry more be a new call.
-- include: tasks/lua/calls.lua

expect_retry({refused = KEYS[1]}, tonumber(ARGV[1]))
