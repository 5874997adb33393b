#!lua
-- permit_acquire: let renders be submitted, as far as the account has room and its pace allows.
--
-- KEYS[1]   permits of the account (hash of render ids and their teams); its size is what counts
-- KEYS[2]   pace of the account (hash, see pace.lua)
-- KEYS[3]   turns of the replicas that wait (hash): since when it is theirs, and when they last
--           asked, in microseconds: two scripts of one millisecond have an order, too
-- ARGV[1]   replica that asks
-- ARGV[2]   most renders in flight
-- ARGV[3]   most submits per second; 0 for no pace until the upstream answers 429
-- ARGV[4..] render id and team of each that wants to start, in the order they are to be served
-- Returns   {{render ids that hold a permit}, wait_ms, full, version of the pace}
--           wait_ms says when to ask again for the others, 0 when there are none; full is 1 when it
--           is room they wait for, and 0 when it is the pace
-- Idempotent by render id: one that holds a permit is granted it again and takes nothing.
--
-- Replicas take turns as teams do within one: each that was refused keeps its turn, and a free
-- place is left for everybody whose turn is older. A replica that has not asked for a while has
-- none: a dead one keeps a place empty no longer than that.
-- include: tasks/lua/pace.lua

local permits_key, pace_key, turns_key = KEYS[1], KEYS[2], KEYS[3]
local replica = ARGV[1]
local max_in_flight = tonumber(ARGV[2])
local max_per_s = tonumber(ARGV[3])

-- How soon a replica asks again for a place that another one may have given back.
local ROOM_AGAIN_MS = 200
-- And how soon in any case.
local ASK_AGAIN_MS = 1000
-- A replica that has not asked for this long has no turn any more.
local TURN_KEEP_MS = 3000

local now_us = store_now_us()

-- Since when it is this replica's turn, and how many others come before it.
local function read_turns()
  local since_us, others = now_us, {}
  local turns = redis.call('HGETALL', turns_key)
  for index = 1, #turns, 2 do
    local since, asked = string.match(turns[index + 1], '^(%d+) (%d+)$')
    if tonumber(asked) + TURN_KEEP_MS * 1000 < now_us then
      redis.call('HDEL', turns_key, turns[index])
    elseif turns[index] == replica then
      since_us = tonumber(since)
    else
      others[#others + 1] = tonumber(since)
    end
  end
  local ahead = 0
  for _, other_us in ipairs(others) do
    if other_us < since_us then
      ahead = ahead + 1
    end
  end
  return since_us, ahead
end

local since_us, ahead = read_turns()
local pace = read_pace(pace_key, max_per_s, math.floor(now_us / 1000))
local room = max_in_flight - redis.call('HLEN', permits_key) - ahead
local spare = math.min(room, submits_now(pace) - ahead)

local granted, taken, refused = {}, 0, false
for index = 4, #ARGV, 2 do
  local render_id, team = ARGV[index], ARGV[index + 1]
  if redis.call('HEXISTS', permits_key, render_id) == 1 then
    granted[#granted + 1] = render_id
  elseif taken < spare then
    redis.call('HSET', permits_key, render_id, team)
    granted[#granted + 1] = render_id
    taken = taken + 1
  else
    refused = true
  end
end
take_submits(pace, taken)

if not refused then
  redis.call('HDEL', turns_key, replica)
  return {granted, 0, 0, pace.version}
end
local turn_us = taken > 0 and now_us or since_us
redis.call('HSET', turns_key, replica, string.format('%d %d', turn_us, now_us))
redis.call('PEXPIRE', turns_key, TURN_KEEP_MS)
if room - taken <= 0 then
  return {granted, ROOM_AGAIN_MS, 1, pace.version}
end
return {granted, math.min(ASK_AGAIN_MS, ms_until(pace, taken + ahead + 1)), 0, pace.version}
