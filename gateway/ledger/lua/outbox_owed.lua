#!lua flags=no-writes
-- outbox_owed: tell of which tasks the outbox still has something.
--
-- KEYS[1]  outbox of the team (hash)
-- ARGV     task ids
-- Returns  those of them that are in it

local owed = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  owed[string.match(field, '^[^:]*')] = true
end
local found = {}
for _, task_id in ipairs(ARGV) do
  if owed[task_id] then
    found[#found + 1] = task_id
  end
end
return found
