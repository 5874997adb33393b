#!lua
-- Write a record in another form, if it still is what was read: nobody's change is lost, and no
-- record that was deleted or has expired comes back.
--
-- KEYS: the record, a hash
-- ARGV: how many words follow that are the record as it was read, fields and values in turn, and
--       those; how many fields go, and those; fields and values to set, in turn
-- Answers 1, or 0 when the record is another one by now.

local key = KEYS[1]
local words = tonumber(ARGV[1])
if words ~= 2 * redis.call('HLEN', key) then
  return 0
end
for at = 2, words, 2 do
  if redis.call('HGET', key, ARGV[at]) ~= ARGV[at + 1] then
    return 0
  end
end
local gone_from = words + 3
local set_from = gone_from + tonumber(ARGV[words + 2])
for at = gone_from, set_from - 1 do
  redis.call('HDEL', key, ARGV[at])
end
for at = set_from, #ARGV, 2 do
  redis.call('HSET', key, ARGV[at], ARGV[at + 1])
end
return 1
