-- Fragment: how fast renders of an account may be submitted, over all replicas.
--
-- The pace is a hash with the fields
--   tat         when the pace is whole again, ms with three decimals (GCRA)
--   resume_ms   nothing is submitted before this
--   lowered_ms  when the upstream's last 429 lowered it; also the version of the pace
--   lowered_to  submits per second it was lowered to
-- A 429 halves the pace; after that it grows by the same amount every second (AIMD). All times are
-- the store's, so that replicas agree.

-- What fits in here may go at once.
local BURST_MS = 1000
-- Where the first 429 starts from when no pace is configured.
local START_PER_S = 20
-- Never slower than this: EvoLink suggests one to two seconds between requests
-- (protocols/evolink.md §10).
local FLOOR_PER_S = 0.5
-- From nothing to the whole pace.
local RECOVERY_MS = 300000
-- Longer than a recovery, and than any pause that is honoured.
local PACE_KEEP_MS = 900000

local function store_now_us()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- `most` is what is configured, in submits per second; 0 for no pace until the first 429.
local function read_pace(key, most, now_ms)
  local fields = redis.call('HMGET', key, 'tat', 'resume_ms', 'lowered_ms', 'lowered_to')
  local pace = {
    key = key,
    now_ms = now_ms,
    tat = math.max(now_ms, tonumber(fields[1] or '0')),
    resume_ms = tonumber(fields[2] or '0'),
    version = tonumber(fields[3] or '0'),
    most = most > 0 and most or START_PER_S,
    bound = most > 0,
  }
  pace.per_s = pace.most
  if pace.version > 0 then
    local grown = pace.most * math.max(0, now_ms - pace.version) / RECOVERY_MS
    local per_s = tonumber(fields[4]) + grown
    if per_s < pace.most then
      pace.per_s, pace.bound = per_s, true
    end
  end
  pace.interval_ms = 1000 / pace.per_s
  return pace
end

-- How far the pace is from having no room left; below zero when it has none.
local function slack_ms(pace)
  return math.max(0, BURST_MS - pace.interval_ms) - (pace.tat - pace.now_ms)
end

-- How many submits may go now.
local function submits_now(pace)
  if pace.now_ms < pace.resume_ms then
    return 0
  end
  if not pace.bound then
    return math.huge
  end
  -- A thousandth of a ms is forgiven: the field has no more digits.
  return math.max(0, math.floor((slack_ms(pace) + 0.001) / pace.interval_ms) + 1)
end

-- How long until `count` submits may go.
local function ms_until(pace, count)
  local wait_ms = pace.resume_ms - pace.now_ms
  if pace.bound then
    wait_ms = math.max(wait_ms, (count - 1) * pace.interval_ms - slack_ms(pace))
  end
  return math.max(1, math.ceil(wait_ms))
end

local function take_submits(pace, count)
  if pace.bound and count > 0 then
    redis.call('HSET', pace.key, 'tat', string.format('%.3f', pace.tat + count * pace.interval_ms))
    redis.call('PEXPIRE', pace.key, PACE_KEEP_MS)
  end
end
