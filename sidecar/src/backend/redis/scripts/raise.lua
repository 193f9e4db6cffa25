
-- ARGV: id, mode, the number wanted. Assigns it to the hold if it is the hold's already or above all that were
-- assigned, else the next one (pawl_lock::quorum::raise). Answers the hold's number, or 0 if it is not there.
local id, wanted = ARGV[1], tonumber(ARGV[3])
local last = tonumber(call('HGET', META, 't') or 0)
if ARGV[2] == 's' then
  local ends = call('ZSCORE', SHARED, id)
  if not ends or tonumber(ends) <= now then return 0 end
  local own, channel, since, owner = shared_details(id)
  if tonumber(own) == wanted then return wanted end
  local number = math.max(wanted, last + 1)
  local text = string.format('%.0f', number)
  call('HSET', META, 't', text, 's' .. id, table.concat({ text, channel, since, owner }, ' '))
  return number
end
if call('GET', LOCK) ~= id then return 0 end
if last == wanted then return last end
local number = math.max(wanted, last + 1)
call('HSET', META, 't', string.format('%.0f', number))
return number
