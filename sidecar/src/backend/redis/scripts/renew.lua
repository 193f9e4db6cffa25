
-- ARGV: channel, remember, id, mode, ttl, owner, and anything more if an end must not be brought forward.
-- Answers {1, wanted mode or false, its age}, or {0}. Never takes a lock that is free.
local channel, remember, id, mode, ttl, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if mode == 's' then
  local ends = call('ZSCORE', SHARED, id)
  if not ends or tonumber(ends) <= now then return { 0 } end
  if ARGV[7] and ends - now > tonumber(ttl) then ttl = string.format('%.0f', ends - now) end
  local token, _, since = shared_details(id)
  call('ZADD', SHARED, now + ttl, id)
  call('HSET', META, 's' .. id, table.concat({ token, channel, since, owner }, ' '))
  call('PEXPIRE', SHARED, remember)
else
  if call('GET', LOCK) ~= id then return { 0 } end
  if ARGV[7] then
    local left = call('PEXPIRETIME', LOCK) - now
    if left > tonumber(ttl) then ttl = string.format('%.0f', left) end
  end
  local held, _, since = call('HGET', META, 'x'), nil, nil
  if held then _, _, since = exclusive_details(held) end
  call('PEXPIRE', LOCK, ttl)
  call('HSET', META, 'x', exclusive_text(id, channel, since or now_text, ttl, owner))
end
call('PEXPIRE', META, remember)
local want, age = wanted(mode, id)
return { 1, want, age }
