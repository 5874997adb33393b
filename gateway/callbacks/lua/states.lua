#!lua flags=no-writes
-- states: how far callbacks are, as of one moment.
--
-- KEYS[1]   callbacks of the team (sorted set)
-- KEYS[2..] deliveries (hashes)
-- ARGV[i]   id of the delivery KEYS[i + 1]
-- Returns  for each {state, tries, last or '', due_ms or '', ended_ms or ''}, {} when there is none

local states = {}
for index, id in ipairs(ARGV) do
  local state, tries, last, ended_ms =
    unpack(redis.call('HMGET', KEYS[index + 1], 'state', 'tries', 'last', 'ended_ms'))
  local due_ms = redis.call('ZSCORE', KEYS[1], id)
  states[index] = state and {state, tries, last or '', due_ms or '', ended_ms or ''} or {}
end
return states
