#!lua
-- KEYS: the fence. ARGV: token, how long it is remembered. Answers the highest that was seen if it is larger, else 0.
-- Tokens are below 2^53, so a Lua number holds them exactly; they are stored as the caller wrote them.
local highest = redis.call('GET', KEYS[1])
if highest and tonumber(highest) > tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return highest
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return '0'
