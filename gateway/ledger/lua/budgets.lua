-- Fragment: the three money verbs on budget windows. Amounts are integers of micro-dollars.
--
-- A window is a hash with the fields
--   spent   settled in this window
--   held    set aside by calls that are not settled
-- Invariant: what a call holds is taken back exactly once, by settle or by release, from the very
-- windows that reserve chose; a settlement is never clamped.

local WINDOW_KEEP_MS = 62 * 86400 * 1000

local function read_window(key)
  local fields = redis.call('HMGET', key, 'spent', 'held')
  return tonumber(fields[1] or '0'), tonumber(fields[2] or '0')
end

-- Which of a budget's candidate windows the store's clock is in; nil when in none of them.
local function window_at(budget, now_ms)
  for _, window in ipairs(budget.windows) do
    if now_ms >= window.start_ms and (not window.end_ms or now_ms < window.end_ms) then
      return window
    end
  end
  return nil
end

-- Hold `amount` in every chosen window, or in none of them.
-- Returns nil when it fits, else the 1-based index of the budget that refuses. `over` lets a hold
-- that was admitted before, and that the store has lost since, exceed the limit.
local function reserve(chosen, amount, over)
  for index, window in ipairs(chosen) do
    local spent, held = read_window(window.key)
    window.spent, window.held = spent, held
    if not over and spent + held + amount > window.limit then
      return index
    end
  end
  for _, window in ipairs(chosen) do
    window.held = redis.call('HINCRBY', window.key, 'held', string.format('%d', amount))
    if window.end_ms then
      redis.call('PEXPIREAT', window.key, string.format('%d', window.end_ms + WINDOW_KEEP_MS))
    end
  end
  return nil
end

-- Give back `amount` and book `cost`; a release books nothing.
local function settle(window_keys, amount, cost)
  for _, key in ipairs(window_keys) do
    redis.call('HINCRBY', key, 'held', string.format('%d', -amount))
    if cost > 0 then
      redis.call('HINCRBY', key, 'spent', string.format('%d', cost))
    end
  end
end

-- {spent, held} of each window, flat, in order.
local function balances(window_keys)
  local flat = {}
  for _, key in ipairs(window_keys) do
    local spent, held = read_window(key)
    flat[#flat + 1] = spent
    flat[#flat + 1] = held
  end
  return flat
end

local function store_now_ms()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end
