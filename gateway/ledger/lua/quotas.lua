-- Fragment: limits on how much is asked for. Nothing is counted for a call that is refused.
--
-- A rate is one number: the moment (ms, with three decimals) at which the allowance is whole again
-- (GCRA). `limit` units fit into a minute, all at once or spread.

local MINUTE_MS = 60000

-- Returns the ms to wait until `units` fit, 0 when they fit now. Notes on the rate what taking them
-- would leave.
local function check_rate(rate, now_ms)
  local interval = MINUTE_MS / rate.limit
  local whole_at = math.max(now_ms, tonumber(redis.call('GET', rate.key) or '0'))
  rate.next_ms = whole_at + rate.units * interval
  local wait_ms = rate.next_ms - MINUTE_MS - now_ms
  if wait_ms > 0.0005 then
    return math.ceil(wait_ms)
  end
  rate.remaining = math.floor((MINUTE_MS - (rate.next_ms - now_ms)) / interval + 0.000001)
  rate.reset_ms = math.ceil(rate.next_ms - now_ms)
  return 0
end

local function take_rate(rate, now_ms)
  redis.call('SET', rate.key, string.format('%.3f', rate.next_ms),
    'PX', int(math.ceil(rate.next_ms - now_ms) + 1000))
end
