-- Fragment: a window that is opened holds what its scope has under way, too.
--
-- The sums that it starts from (budgets.lua) know what was settled. A task that was admitted before
-- anybody knew the budget, in the very stretch of time that the window counts, is not in them yet and
-- holds nothing in the window: so it is held there now, over the limit if need be, and its record
-- remembers the window as it does those it was admitted in. Whoever raises, settles or releases it
-- touches the windows of its record. A task is in one window of a budget at most.
--
-- For a day it is also noted that a window was opened, by whose it is. A gateway that has not taken
-- over the settings yet does not name the window; nor does one that writes a task again which it
-- remembers from before. What they admit is held there all the same. It is not refused: to whom the
-- settings do not say so the limit is none, and a budget that was taken away must stop nobody.
--
-- Windows that turn cost little: what was created before them is not theirs, and it is looked at
-- either the tasks that were created in the window or those under way, whichever are fewer. Those of
-- an end user are in a set of their own, since each user has windows, and opens them at any time.
-- include: tasks/lua/in_flight.lua

-- No more names in one command than this.
local NAMES_AT_ONCE = 1000

local function is_within(window, created_ms)
  return created_ms >= window.start_ms and (not window.end_ms or created_ms < window.end_ms)
end

-- Tasks that may be under way and of the window; their records decide.
local function candidates(budget, window, places)
  if budget.scope == 'user' then
    return redis.call('SMEMBERS', in_flight_of_user(places.in_flight, budget.owner))
  end
  local first_ms = int(window.start_ms)
  local last_ms = window.end_ms and '(' .. int(window.end_ms) or '+inf'
  -- Older tasks are off the list, whether they are under way or not.
  if window.start_ms >= places.list_from_ms
    and redis.call('ZCOUNT', places.tasks, first_ms, last_ms)
      <= redis.call('ZCARD', places.in_flight) then
    return redis.call('ZRANGE', places.tasks, first_ms, last_ms, 'BYSCORE')
  end
  local ids = redis.call('ZRANGE', places.in_flight, 0, -1)
  local found = {}
  for first = 1, #ids, NAMES_AT_ONCE do
    local last = math.min(first + NAMES_AT_ONCE - 1, #ids)
    local created = redis.call('ZMSCORE', places.tasks, unpack(ids, first, last))
    for offset, created_ms in ipairs(created) do
      if not created_ms or is_within(window, tonumber(created_ms)) then
        found[#found + 1] = ids[first + offset - 1]
      end
    end
  end
  return found
end

-- Whether a record is in a window of this budget already: this one, or the one before, which the
-- store's clock was still in when the gateway's dated the task into this one.
local function is_counted(held_json, facts, window)
  for _, other in ipairs(cjson.decode(held_json)) do
    if other.key == window.key or (other.scope == facts.scope and other.owner == facts.owner
      and other.name == facts.name and other.resets_at_ms == window.start_ms) then
      return true
    end
  end
  return false
end

local function appended(list_json, item_json)
  if list_json == '[]' then
    return '[' .. item_json .. ']'
  end
  return string.sub(list_json, 1, -2) .. ',' .. item_json .. ']'
end

-- Hold the renders of a task that are not settled in one window more; returns what that is in all.
local function widen(task_key, id, window, ledger_key)
  local record = redis.call('HMGET', task_key, 'windows', 'held', 'renders', 'key', 'user',
    'model', 'provider', 'size', 'quality')
  local windows_json, held_json, renders, key, user, model, provider, size, quality = unpack(record)
  local window_json = cjson.encode(window.key)
  local amount = 0
  for index = 0, tonumber(renders) - 1 do
    local prefix = string.format('%d:', index)
    local render = redis.call('HMGET', task_key, prefix .. 'hold', prefix .. 'cost')
    local hold, cost = render[1], render[2]
    if not cost then
      amount = amount + tonumber(hold)
      redis.call('XADD', ledger_key, '*', 'verb', 'widen', 'task', id, 'amount', hold,
        'windows', '[' .. window_json .. ']', 'op', id .. ':' .. prefix .. 'widen:' .. window.key,
        'render', int(index), 'key', key, 'user', user, 'model', model, 'provider', provider,
        'size', size, 'quality', quality)
    end
  end
  redis.call('HSET', task_key, 'windows', appended(windows_json, window_json),
    'held', appended(held_json, window.facts))
  return amount
end

-- The windows in a list of those that were opened and are not over. The list is JSON of texts
-- '<start> <end, or -> <key>', in Unix ms, and the facts on a line of their own: they have numbers
-- that cjson does not write as they were.
local function opened_windows(list_json)
  local found = {}
  for _, text in ipairs(list_json and cjson.decode(list_json) or {}) do
    local start_ms, end_ms, key, facts = string.match(text, '^(%d+) (%S+) ([^\n]*)\n(.*)$')
    found[#found + 1] = {
      text = text, key = key, start_ms = tonumber(start_ms), end_ms = tonumber(end_ms),
      facts = facts}
  end
  return found
end

local function note_opened(opened_key, window, now_ms)
  local windows = {{
    text = string.format('%d %s %s\n%s', window.start_ms,
      window.end_ms and int(window.end_ms) or '-', window.key, window.facts),
    end_ms = window.end_ms}}
  for _, other in ipairs(opened_windows(redis.call('GET', opened_key))) do
    -- Windows that are over would pile up where budgets are per minute.
    if is_within(other, now_ms) then
      windows[#windows + 1] = other
    end
  end
  local texts, until_ms = {}, now_ms
  for index, each in ipairs(windows) do
    texts[index] = each.text
    until_ms = math.max(until_ms, each.end_ms or math.huge)
  end
  redis.call('SET', opened_key, cjson.encode(texts))
  if until_ms < math.huge then
    redis.call('PEXPIREAT', opened_key, int(until_ms))
  end
end

-- Windows of a task's scopes that count the moment `at_ms` and that its admission does not name;
-- `held_json` are the facts of those it does.
local function opened_elsewhere(opened_keys, window_keys, held_json, at_ms)
  local is_named, found = {}, {}
  for _, key in ipairs(window_keys) do
    is_named[key] = true
  end
  for _, list_json in ipairs(redis.call('MGET', unpack(opened_keys))) do
    for _, window in ipairs(opened_windows(list_json)) do
      if not is_named[window.key] and is_within(window, at_ms)
        and not is_counted(held_json, cjson.decode(window.facts), window) then
        found[#found + 1] = window
      end
    end
  end
  return found
end

-- Hold all of a budget's scope that is under way in a window of it that has just been opened.
-- `places` are the keys of the team's sets (`in_flight`, `tasks`) and of its ledger, `prefix` of the
-- keys of its tasks, and `list_from_ms`, since when all tasks are in `tasks`.
local function hold_under_way(budget, window, places)
  local facts = cjson.decode(window.facts)
  local amount = 0
  for _, id in ipairs(candidates(budget, window, places)) do
    local task_key = places.prefix .. id
    local record = redis.call('HMGET', task_key, 'open', 'created_ms', 'key', 'held')
    local open, created_ms, key, held_json = unpack(record)
    if open and open ~= '0' and is_within(window, tonumber(created_ms))
      and (budget.scope ~= 'key' or key == budget.owner)
      and not is_counted(held_json, facts, window) then
      amount = amount + widen(task_key, id, window, places.ledger)
    end
  end
  if amount > 0 then
    redis.call('HINCRBY', window.key, 'held', int(amount))
  end
end
