#!lua flags=allow-oom
-- enqueue: write a callback down, once.
--
-- KEYS[1]  callbacks of the team (sorted set)
-- KEYS[2]  the delivery (hash)
-- ARGV[1]  order, JSON: id, task, event, url, body, due_ms (Unix ms)
-- Returns  1 when it is new, 0 when it was there
-- Idempotent by the delivery's id. Runs without memory to spare: what it tells of is paid for.
-- include: callbacks/lua/queue.lua

return enqueue_callback(KEYS[1], KEYS[2], cjson.decode(ARGV[1])) and 1 or 0
