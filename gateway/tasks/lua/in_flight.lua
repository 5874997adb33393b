-- Fragment: which tasks of a team hold money: of all in one sorted set, by their number of images;
-- and of each end user in a set of its own, so that a window of one user is opened without a look at
-- everybody's tasks. The end user is whom the call names, whether the books know users or not.

local function in_flight_of_user(in_flight_key, user)
  return in_flight_key .. ':' .. user
end

local function enter_flight(in_flight_key, id, images, user)
  redis.call('ZADD', in_flight_key, images, id)
  if user ~= '' then
    redis.call('SADD', in_flight_of_user(in_flight_key, user), id)
  end
end

-- `subject` and `user` as the task's record has them.
local function leave_flight(in_flight_key, id, subject, user)
  redis.call('ZREM', in_flight_key, id)
  local named = subject or user
  if named and named ~= '' then
    redis.call('SREM', in_flight_of_user(in_flight_key, named), id)
  end
end
