#!lua flags=allow-oom
-- advance: move a render from one state to the next and note what was learned.
--
-- KEYS[1]  task record (hash)
-- ARGV[1]  states it may leave from, comma-separated (the table is in domain/task.py)
-- ARGV[2]  state it goes to
-- ARGV[3]  attempt id of this try
-- ARGV[4]  epoch that must match, or '' for a fact, which is accepted from any owner
-- ARGV[5]  attempt id the record must still have, or '' when this event starts an attempt
-- ARGV[6]  fields to write, JSON: flat array of names and values
-- Returns  'done' | 'missing' | 'fenced' | the state it is in when it may not move
-- Idempotent: a render that is in the new state by this very attempt answers 'done'.

local task_key = KEYS[1]
local from_states = ',' .. ARGV[1] .. ','
local to_state = ARGV[2]
local attempt_id = ARGV[3]
local epoch = ARGV[4]
local expected_attempt = ARGV[5]
local fields = cjson.decode(ARGV[6])

local record = redis.call('HMGET', task_key, 'state', 'attempt_id', 'epoch')
local state, attempt, owner_epoch = record[1], record[2], record[3]
if not state then
  return 'missing'
end
if state == to_state and attempt == attempt_id then
  return 'done'
end
if epoch ~= '' and epoch ~= owner_epoch then
  return 'fenced'
end
if not string.find(from_states, ',' .. state .. ',', 1, true) then
  return state
end
if expected_attempt ~= '' and attempt ~= expected_attempt then
  return 'fenced'
end
redis.call('HSET', task_key, 'state', to_state, 'attempt_id', attempt_id, unpack(fields))
redis.call('HINCRBY', task_key, 'version', 1)
return 'done'
