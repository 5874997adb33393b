#!lua
-- are_live: tell which renders have not ended yet.
--
-- KEYS[i]  task record (hash), all of one team
-- ARGV[i]  index of the render
-- Returns  1 or 0 for each

local live = {}
for position, task_key in ipairs(KEYS) do
  local prefix = ARGV[position] .. ':'
  local record = redis.call('HMGET', task_key, prefix .. 'state', prefix .. 'cost')
  live[position] = (record[1] and not record[2]) and 1 or 0
end
return live
