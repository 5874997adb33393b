-- Fragment: what the organization holds for a task, a hash in the slot {org}:
--   state     'held', or 'over' when nothing is held any more (also: when nothing ever may be)
--   team      whose task it is
--   open      micro-dollars that are still held
--   windows   JSON list of the windows they are held in
--   raise|<part>  by how much a part's hold was raised in all
--   part|<part>   what was given back and what was booked for a part: it never happens again
-- It stays while the team's outbox has anything of the task: its parts are what makes repetitions
-- harmless.

local function write_json_list(list)
  -- cjson writes an empty table as an object.
  return #list == 0 and '[]' or cjson.encode(list)
end

-- The names in `window_keys` and those of `more` that are not among them.
local function together(window_keys, more)
  local all, known, added = {}, {}, {}
  for _, key in ipairs(window_keys) do
    all[#all + 1] = key
    known[key] = true
  end
  for _, key in ipairs(more) do
    if not known[key] then
      all[#all + 1] = key
      added[#added + 1] = key
    end
  end
  return all, added
end

-- Take what is open of a hold also from windows of budgets that came after it, whatever their limits
-- say: it cannot be taken back. Returns all of its windows.
local function widen(hold_key, ledger_key, task_id, team, open, window_keys, more)
  local all, added = together(window_keys, more)
  if #added == 0 then
    return window_keys
  end
  settle(added, -open, 0)
  redis.call('HSET', hold_key, 'windows', write_json_list(all))
  redis.call('XADD', ledger_key, '*', 'verb', 'widen', 'op', task_id .. ':widen:' .. added[1],
    'task', task_id, 'of_team', team, 'amount', int(open), 'windows', write_json_list(added))
  return all
end

-- Whether all of these are among KEYS[first..]. Callers guess the windows of a hold, and are told
-- when they guessed wrong: a script touches no key that was not named to it.
local function all_named(window_keys, first)
  local named = {}
  for index = first, #KEYS do
    named[KEYS[index]] = true
  end
  for _, key in ipairs(window_keys) do
    if not named[key] then
      return false
    end
  end
  return true
end
