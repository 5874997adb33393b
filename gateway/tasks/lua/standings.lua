#!lua flags=no-writes
-- standings: tell how far tasks have come by their records, and which server says so.
--
-- KEYS[1]   all tasks of the team (sorted set): where to ask
-- KEYS[2..] task records (hashes)
-- Returns   {id of the server's run, '' when it does not tell,
--            and for each record '' when there is none, else
--            '<epoch> <owner or -> <state>,<tries>,<1 when its money is settled>,<1 when its
--            hold was raised> ..' by render}

local run_id = ''
local info = redis.pcall('INFO', 'server')
if type(info) == 'string' then
  run_id = string.match(info, 'run_id:(%x+)') or ''
end
local told = {run_id}
for position = 2, #KEYS do
  local record = redis.call('HMGET', KEYS[position], 'epoch', 'owner', 'renders')
  local epoch, owner, renders = unpack(record)
  local words = {}
  if epoch then
    words = {epoch, owner == '' and '-' or owner}
    for index = 0, tonumber(renders) - 1 do
      local prefix = index .. ':'
      local render = redis.call(
        'HMGET', KEYS[position], prefix .. 'state', prefix .. 'tries', prefix .. 'cost',
        prefix .. 'raised')
      words[#words + 1] = string.format(
        '%s,%s,%s,%s', render[1], render[2] or '0', render[3] and '1' or '0',
        render[4] and '1' or '0')
    end
  end
  told[#told + 1] = table.concat(words, ' ')
end
return told
