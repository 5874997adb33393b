-- Fragment: which tasks of a team hold money: of all in one sorted set, by their number of images;
-- and of each end user in a set of its own, so that a window of one user is opened without a look at
-- everybody's tasks. The end user is the call's `subject`, whether the books know users or not.

local function in_flight_of_user(in_flight_key, user)
  return in_flight_key .. ':' .. user
end

local function enter_flight(in_flight_key, id, images, subject)
  redis.call('ZADD', in_flight_key, images, id)
  if subject ~= '' then
    redis.call('SADD', in_flight_of_user(in_flight_key, subject), id)
  end
end

-- `subject` as the task's record has it: not at all where the call named nobody.
local function leave_flight(in_flight_key, id, subject)
  redis.call('ZREM', in_flight_key, id)
  if subject then
    redis.call('SREM', in_flight_of_user(in_flight_key, subject), id)
  end
end
