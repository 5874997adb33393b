#!lua flags=allow-oom
-- shelve: note which pictures are in the asset store, and which answers have left.
--
-- KEYS[1,2,3]  pictures of the team that nobody has fetched (hash, sorted sets)
-- KEYS[4..]  task records (hashes) of the team
-- ARGV[1]  prefix of the keys of tasks by who has to see to them
-- ARGV[2]  the gateway's clock, Unix ms
-- ARGV[3]  notes, JSON: one for each key: {id, stored: {index: "format bytes" or "lost"},
--          delivered: whether its answer has left, fetched: [index, …]}
-- Returns  how many tasks need nobody any more. Idempotent.
-- include: tasks/lua/unfetched.lua

local live, now_ms, notes = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
local unfetched = {paid = KEYS[1], ends = KEYS[2], awaited = KEYS[3]}
local finished = 0
for position, note in ipairs(notes) do
  local task_key = KEYS[position + 3]
  if note.delivered then
    forget_unfetched(unfetched, note.id)
  end
  local record = redis.call('HMGET', task_key, 'open', 'unstored', 'owner')
  local open, unstored, owner = tonumber(record[1] or '0'), tonumber(record[2] or '0'), record[3]
  if record[1] then
    for _, index in ipairs(note.fetched) do
      count_fetched(unfetched, task_key, note.id, index)
    end
    for index, stored in pairs(note.stored) do
      if redis.call('HSETNX', task_key, index .. ':stored', stored) == 1 then
        unstored = redis.call('HINCRBY', task_key, 'unstored', -1)
      end
    end
    if note.delivered then
      redis.call('HSETNX', task_key, 'delivered_ms', now_ms)
    end
    if open < 1 and unstored < 1 then
      finished = finished + redis.call('ZREM', live .. owner, note.id)
    end
  end
end
return finished
