-- claim_upload: find the link to a file that was brought up, or win the right to bring it up.
--
-- KEYS[1]  the file's record (string): 'url:<link>', or 'claim:<whose>' while somebody is about it
-- ARGV[1]  'claim:<whose>'
-- ARGV[2]  how long the claim holds, ms
-- ARGV[3]  how long a link must be good for yet, ms
-- Returns  {'url', link} | {'claimed'} | {'busy'}
-- Idempotent: whoever has the claim wins it again.

local found = redis.call('GET', KEYS[1])
if found and string.sub(found, 1, 6) == 'claim:' and found ~= ARGV[1] then
  return {'busy'}
end
if found and string.sub(found, 1, 4) == 'url:' then
  if redis.call('PTTL', KEYS[1]) >= tonumber(ARGV[3]) then
    return {'url', string.sub(found, 5)}
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'claimed'}
