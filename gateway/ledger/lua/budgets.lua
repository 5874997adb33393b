-- Fragment: the money verbs on budget windows. Amounts are integers of micro-dollars.
--
-- A window is a hash with the fields
--   spent      settled in this window
--   held       set aside by calls that are not settled
--   topped_up  added to the limit of a prepaid total (absent: nothing)
--   limit, end_ms   as they were at the last hold; for readers
--   refused_at      the limit that a call did not fit below; for whoever announces it
-- Invariant: what a call holds is taken back exactly once, by settle or by release, from the very
-- windows that it is held in: those that reserve chose, and those it was found under way for when
-- they were opened. A settlement is never clamped.

local WINDOW_KEEP_MS = 62 * 86400 * 1000
-- What was spent is also summed in buckets of a quarter of an hour: every time zone's midnight is a
-- multiple of it. A budget that is added in the middle of its window starts from these sums.
local BUCKET_MS = 900000
local SUMS_KEEP_MS = 100 * 86400 * 1000

local function int(number)
  return string.format('%d', number)
end

local function store_now_ms()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

local function read_window(key)
  local fields = redis.call('HMGET', key, 'spent', 'held', 'topped_up')
  return tonumber(fields[1] or '0'), tonumber(fields[2] or '0'), tonumber(fields[3] or '0')
end

-- Which of the candidate windows the store's clock is in; nil when in none of them.
local function window_at(windows, now_ms)
  for _, window in ipairs(windows) do
    if now_ms >= window.start_ms and (not window.end_ms or now_ms < window.end_ms) then
      return window
    end
  end
  return nil
end

-- What the scope has spent since the window began, by the sums: zero but for a budget that is new.
local function opening_of(budget, window, now_ms, sums)
  local name = budget.scope .. '|' .. budget.owner
  if not window.end_ms then
    return tonumber(redis.call('HGET', sums.total, name) or '0')
  end
  if window.end_ms - window.start_ms < BUCKET_MS then
    return 0
  end
  local fields = {}
  local until_ms = math.min(now_ms, window.end_ms - 1)
  for bucket = window.start_ms - window.start_ms % BUCKET_MS, until_ms, BUCKET_MS do
    fields[#fields + 1] = int(bucket) .. '|' .. name
  end
  local spent = 0
  for _, key in ipairs(sums.months) do
    for first = 1, #fields, 1000 do
      local last = math.min(first + 999, #fields)
      for _, value in ipairs(redis.call('HMGET', key, unpack(fields, first, last))) do
        spent = spent + tonumber(value or '0')
      end
    end
  end
  return spent
end

-- Make a window that starts from what was spent before.
local function open_window(budget, window, now_ms, sums, ledger_key)
  local opening = opening_of(budget, window, now_ms, sums)
  redis.call('HSET', window.key, 'spent', int(opening), 'held', '0')
  if window.end_ms then
    redis.call('PEXPIREAT', window.key, int(window.end_ms + WINDOW_KEEP_MS))
  end
  if opening > 0 then
    redis.call('XADD', ledger_key, '*', 'verb', 'open', 'op', 'open:' .. window.key,
      'window', window.key, 'spent', int(opening))
  end
end

-- Bring a window that there is up to what the sums say, if they say more: of what was spent while no
-- gateway named its budget, it has not heard.
local function recount_window(budget, window, now_ms, sums, ledger_key)
  local spent = tonumber(redis.call('HGET', window.key, 'spent'))
  local missed = spent and opening_of(budget, window, now_ms, sums) - spent or 0
  if missed > 0 then
    redis.call('HINCRBY', window.key, 'spent', int(missed))
    redis.call('XADD', ledger_key, '*', 'verb', 'open', 'op', 'recount:' .. window.key,
      'window', window.key, 'spent', int(missed))
  end
end

-- Read every chosen window, open those that are new, and check that `amount` fits into all.
-- Returns nil when it fits, else the 1-based index of the budget that refuses. `over` lets a hold
-- that was admitted before, and that the store has lost since, exceed the limit. `opened`, if there
-- is one, is called with each budget and its window that was opened, to hold what is under way.
-- Opening a window is no hold of the call's: it stays when the call is refused.
local function check_budgets(budgets, chosen, amount, over, now_ms, sums, ledger_key, opened)
  local refusing = nil
  for index, window in ipairs(chosen) do
    local fields = redis.call('HMGET', window.key, 'spent', 'held', 'topped_up', 'limit')
    -- Not EXISTS: a total may have been topped up before anything was spent.
    if not fields[1] then
      open_window(budgets[index], window, now_ms, sums, ledger_key)
      if opened then
        opened(budgets[index], window)
      end
      fields = redis.call('HMGET', window.key, 'spent', 'held', 'topped_up', 'limit')
    end
    local spent, held = tonumber(fields[1]), tonumber(fields[2])
    window.spent, window.held, window.told_limit = spent, held, fields[4]
    window.limit = budgets[index].limit + tonumber(fields[3] or '0')
    if not refusing and not over and spent + held + amount > window.limit then
      refusing = index
      -- Once for each limit: a caller that tries again and again costs no write.
      if redis.call('HGET', window.key, 'refused_at') ~= int(window.limit) then
        redis.call('HSET', window.key, 'refused_at', int(window.limit))
      end
    end
  end
  return refusing
end

-- Set `amount` aside in every chosen window.
local function reserve(chosen, amount)
  for _, window in ipairs(chosen) do
    redis.call('HINCRBY', window.key, 'held', int(amount))
    if window.told_limit ~= int(window.limit) then
      redis.call('HSET', window.key, 'limit', int(window.limit))
    end
  end
end

-- Give back `amount` and book `cost`; a release books nothing, a correction may be negative.
local function settle(window_keys, amount, cost)
  for _, key in ipairs(window_keys) do
    redis.call('HINCRBY', key, 'held', int(-amount))
    if cost ~= 0 then
      redis.call('HINCRBY', key, 'spent', int(cost))
    end
  end
end

-- {spent, held, topped up} of each window, flat, in order.
local function balances(window_keys)
  local flat = {}
  for _, key in ipairs(window_keys) do
    local spent, held, topped_up = read_window(key)
    flat[#flat + 1] = spent
    flat[#flat + 1] = held
    flat[#flat + 1] = topped_up
  end
  return flat
end
