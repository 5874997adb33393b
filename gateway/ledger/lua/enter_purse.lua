#!lua
-- enter_purse: have the organization told of the ends of tasks, and say what it is to hold for them.
--
-- KEYS     task records (hashes)
-- Returns  for each: '' when none of its money is open, else JSON:
--   created_ms
--   parts    {index of a render: micro-dollars it was reserved for}; without those that ended while
--            nobody told the organization
--   raises   {index of a render: by how much its hold was raised}; only of those that are open
-- Idempotent.
-- include: ledger/lua/budgets.lua

local function object(pairs_of)
  return '{' .. table.concat(pairs_of, ',') .. '}'
end

local answers = {}
for number, key in ipairs(KEYS) do
  local record = redis.call('HMGET', key, 'created_ms', 'renders', 'open')
  answers[number] = ''
  if tonumber(record[3] or '0') > 0 then
    redis.call('HSET', key, 'purse', '1')
    local parts, raises = {}, {}
    for index = 0, tonumber(record[2]) - 1 do
      local prefix = int(index) .. ':'
      local render = redis.call('HMGET', key,
        prefix .. 'hold', prefix .. 'raised', prefix .. 'cost', prefix .. 'told')
      local hold, raised, cost, told = tonumber(render[1]), tonumber(render[2] or '0'), render[3], render[4]
      if not cost or told then
        parts[#parts + 1] = string.format('"%d":%d', index, hold - raised)
      end
      if not cost and raised > 0 then
        raises[#raises + 1] = string.format('"%d":%d', index, raised)
      end
    end
    answers[number] = string.format('{"created_ms":%s,"parts":%s,"raises":%s}',
      record[1], object(parts), object(raises))
  end
end
return answers
