#!lua flags=no-writes
-- KEYS: LOCK, META, SHARED, QUEUE. Answers {waiters, holder, ...}, a holder being
-- {mode, token, held for, expires in, owner}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local answer = { 0 }
local exclusive = redis.call('GET', KEYS[1])
if exclusive then
  local meta = redis.call('HMGET', KEYS[2], 't', 'x')
  local id, since, renewed, ttl, owner = string.match(meta[2] or '', '^(%x+) %x+ (%d+) (%d+) (%d+) (.*)$')
  if id == exclusive then
    answer[2] =
      { 'x', tonumber(meta[1]), math.max(now - since, 0), math.max(renewed + ttl - now, 0), owner }
  end
end
local holders = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. now, '+inf', 'WITHSCORES')
for i = 1, #holders, 2 do
  local detail = redis.call('HGET', KEYS[2], 's' .. holders[i])
  if detail then
    local token, since, owner = string.match(detail, '^(%d+) %x+ (%d+) (.*)$')
    answer[#answer + 1] =
      { 's', tonumber(token), math.max(now - since, 0), math.floor(holders[i + 1] - now), owner }
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  local detail = redis.call('HGET', KEYS[2], 'w' .. id)
  if detail and tonumber(string.sub(detail, 18)) > now then answer[1] = answer[1] + 1 end
end
return answer
