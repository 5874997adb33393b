-- Fragment: write a callback to a client down, to be delivered from then on.
--
-- A delivery is a hash with the fields
--   state      pending, delivered or failed
--   task, event, url, body   what is sent and where to; url and body go when it is over
--   tries      attempts whose outcome is known
--   last       outcome of the last of them ('204', 'timeout', ..); absent before
--   claim      who is at it (a random text); their lease is the score in the queue
--   recorded   claim of the last attempt that was recorded
--   ended_ms   when it was over

-- `callback` is {id, task, event, url, body, due_ms}. Returns whether it is new. Idempotent by id
-- while the hash lives, which is until a day after its end.
local function enqueue_callback(queue_key, delivery_key, callback)
  if redis.call('EXISTS', delivery_key) == 1 then
    return false
  end
  redis.call('HSET', delivery_key, 'state', 'pending', 'task', callback.task,
    'event', callback.event, 'url', callback.url, 'body', callback.body, 'tries', '0')
  redis.call('ZADD', queue_key, string.format('%d', callback.due_ms), callback.id)
  return true
end
