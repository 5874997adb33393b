#!lua flags=allow-oom
-- permit_slow_down: submit more slowly to an account whose upstream answered 429.
--
-- KEYS[1]  pace of the account (hash, see pace.lua)
-- ARGV[1]  most submits per second; 0 for no pace until the upstream answers 429
-- ARGV[2]  version of the pace that the refused submit was made at
-- ARGV[3]  how long nothing may be submitted, ms: what the upstream asked for; 0 for nothing
-- Returns  1 when this lowered the pace, 0 when it had been lowered since
-- Idempotent by the version: of all submits that were made at one pace, one lowers it, once.
-- include: tasks/lua/pace.lua

local pace_key = KEYS[1]
local max_per_s = tonumber(ARGV[1])
local seen_version = tonumber(ARGV[2])
local pause_ms = tonumber(ARGV[3])

local now_ms = math.floor(store_now_us() / 1000)
local pace = read_pace(pace_key, max_per_s, now_ms)
local lowers = pace.version == seen_version
if lowers then
  local lowered_to = math.max(math.min(FLOOR_PER_S, pace.most), pace.per_s / 2)
  pause_ms = math.max(pause_ms, 1000 / lowered_to)
  redis.call('HSET', pace_key,
    'lowered_ms', string.format('%d', math.max(now_ms, pace.version + 1)),
    'lowered_to', string.format('%.6f', lowered_to))
end
local resume_ms = math.max(pace.resume_ms, now_ms + math.ceil(pause_ms))
redis.call('HSET', pace_key, 'resume_ms', string.format('%d', resume_ms))
redis.call('PEXPIRE', pace_key, PACE_KEEP_MS)
return lowers and 1 or 0
