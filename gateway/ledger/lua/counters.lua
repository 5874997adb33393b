#!lua flags=no-writes
-- counters: one step of a walk over all keys, for those that count money of a team. A walk finds
-- every key that is there from its beginning to its end; it may name one twice.
--
-- KEYS[1]  ledger of the team: on a cluster it says where the walk goes
-- ARGV[1]  cursor; 0 begins a walk
-- ARGV[2]  what all keys of the team begin with
-- ARGV[3]  about how many keys to look at
-- Returns  {cursor, 0 ends the walk; {keys of budget windows and rollups}}

local prefix = ARGV[2]
local step = redis.call('SCAN', ARGV[1], 'MATCH', prefix .. '*', 'COUNT', ARGV[3])
local found = {}
for _, key in ipairs(step[2]) do
  local kind = string.match(string.sub(key, #prefix + 1), '^(%a+):')
  if kind == 'budget' or kind == 'rollup' then
    found[#found + 1] = key
  end
end
return {step[1], found}
