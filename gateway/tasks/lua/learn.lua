#!lua
-- learn: let the histograms of a class age, add a batch of observations, and return them all.
--
-- KEYS[1]  latencies of one class (hash): 'at_ms', and for each histogram its weights, a comma
--          between each two
-- ARGV[1]  half-life of a weight, ms
-- ARGV[2]  the most that the weights of one histogram may be together
-- ARGV[3]  how long the hash is kept from now, ms
-- ARGV[4]  how many buckets a histogram has
-- ARGV[5]  the batch, JSON: {histogram: [bucket from 0, weight, bucket, weight, ..]}
-- Returns  the hash as it is now: names and values in turn
-- Not idempotent: a batch is sent once at most, and one that got lost is no harm.

local key = KEYS[1]
local half_life_ms, most, keep_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local buckets = tonumber(ARGV[4])
local batch = cjson.decode(ARGV[5])

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local at_ms = tonumber(redis.call('HGET', key, 'at_ms') or now_ms)
local aging = 0.5 ^ (math.max(now_ms - at_ms, 0) / half_life_ms)

local function weights_of(text)
  local weights = {}
  for word in string.gmatch(text or '', '[^,]+') do
    weights[#weights + 1] = tonumber(word) or 0
  end
  for bucket = #weights + 1, buckets do
    weights[bucket] = 0
  end
  return weights
end

-- A busy class forgets by what comes in, a quiet one by the clock.
local function write(name, weights, aged)
  local total = 0
  for bucket = 1, #weights do
    weights[bucket] = weights[bucket] * aged
  end
  local added = batch[name] or {}
  for index = 1, #added, 2 do
    local bucket = added[index] + 1
    weights[bucket] = weights[bucket] + added[index + 1]
  end
  for bucket = 1, #weights do
    total = total + weights[bucket]
  end
  local factor = total > most and most / total or 1
  local words = {}
  for bucket = 1, #weights do
    words[bucket] = string.format('%.5g', weights[bucket] * factor)
  end
  redis.call('HSET', key, name, table.concat(words, ','))
end

local stored = redis.call('HGETALL', key)
for index = 1, #stored, 2 do
  if stored[index] ~= 'at_ms' then
    write(stored[index], weights_of(stored[index + 1]), aging)
    batch[stored[index]] = nil
  end
end
for name in pairs(batch) do
  write(name, weights_of(nil), 1)
end
redis.call('HSET', key, 'at_ms', string.format('%d', now_ms))
redis.call('PEXPIRE', key, keep_ms)
return redis.call('HGETALL', key)
