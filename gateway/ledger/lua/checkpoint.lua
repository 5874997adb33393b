#!lua flags=allow-oom
-- checkpoint: put a checkpoint in the place of the entries it stands for.
--
-- KEYS[1]  checkpoint of the ledger (hash)
-- KEYS[2]  the new checkpoint, written beside it (hash)
-- KEYS[3]  ledger of the team (stream)
-- ARGV[1]  last entry of the checkpoint that the new one was made from, '' for none
-- ARGV[2]  last entry of the new one
-- ARGV[3]  the lowest id that stays
-- Returns  {'done', entries removed} | {'moved'} when another checkpoint came first
--          {'unstaged'} when the new checkpoint is not there
-- Idempotent. Runs without memory to spare: it frees some.

local checkpoint_key, staged_key, ledger_key = KEYS[1], KEYS[2], KEYS[3]
local made_from, last, keep_from = ARGV[1], ARGV[2], ARGV[3]

local current = redis.call('HGET', checkpoint_key, 'last') or ''
if current ~= last then
  if current ~= made_from then
    return {'moved'}
  end
  if redis.call('HGET', staged_key, 'last') ~= last then
    return {'unstaged'}
  end
  redis.call('RENAME', staged_key, checkpoint_key)
  redis.call('PERSIST', checkpoint_key)
end
return {'done', redis.call('XTRIM', ledger_key, 'MINID', keep_from)}
