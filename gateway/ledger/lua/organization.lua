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
