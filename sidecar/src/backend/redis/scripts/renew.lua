
-- ARGV: channel, remember, id, mode, ttl, owner, and anything more if an end must not be brought forward.
-- Answers {1, wanted mode or false, its age}, or {0}. Never takes a lock that is free.
local id, mode, till = ARGV[3], ARGV[4], now + tonumber(ARGV[5])
if mode == 's' then
  local ends = call('ZSCORE', SHARED, id)
  if not ends or tonumber(ends) <= now then return { 0 } end
  if ARGV[7] then till = math.max(till, tonumber(ends)) end
  local token, _, since = shared_details(id)
  call('ZADD', SHARED, till, id)
  call('HSET', META, 's' .. id, token .. ' ' .. ARGV[1] .. ' ' .. since .. ' ' .. ARGV[6])
  call('PEXPIREAT', SHARED, now + tonumber(ARGV[2]))
else
  if call('GET', LOCK) ~= id then return { 0 } end
  if ARGV[7] then till = math.max(till, call('PEXPIRETIME', LOCK)) end
  call('PEXPIREAT', LOCK, till)
  call('HSET', META, 'u', till, 'o', ARGV[6], 'c', ARGV[1])
end
call('PEXPIREAT', META, now + tonumber(ARGV[2]))
local want, age = wanted(mode, id)
return { 1, want, age }
