#!lua
-- Tries every command that the other scripts use, on the keys of a lock that cannot be. An ACL that forbids one is
-- found at start and not half-way through an acquire. Answers {the server's clock in ms, 1 if hints can be sent}.
-- KEYS: LOCK, META, SHARED, QUEUE, TOMBS, FENCE. ARGV: channel.
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
call('SET', KEYS[1], 'probe', 'PX', 60000)
call('GET', KEYS[1])
call('HSET', KEYS[2], 'probe', 1)
call('HMGET', KEYS[2], 'probe')
call('HGET', KEYS[2], 'probe')
call('HDEL', KEYS[2], 'probe')
for i = 3, 5 do
  call('ZADD', KEYS[i], 1, 'probe')
  call('PEXPIREAT', KEYS[i], now + 60000)
  call('PEXPIRE', KEYS[i], 60000)
  call('PEXPIRETIME', KEYS[i])
  call('ZSCORE', KEYS[i], 'probe')
  call('ZRANK', KEYS[i], 'probe')
  call('ZCARD', KEYS[i])
  call('ZRANGE', KEYS[i], 0, -1)
  call('ZRANGEBYSCORE', KEYS[i], 0, 1)
  call('ZREM', KEYS[i], 'probe')
  call('ZREMRANGEBYSCORE', KEYS[i], 0, 1)
end
call('SET', KEYS[6], 'probe', 'PX', 60000)
call('EXISTS', KEYS[1], KEYS[2])
call('DEL', KEYS[1], KEYS[6])
local told = redis.pcall('PUBLISH', 'pawl:ch:' .. ARGV[1], '')
return { now, type(told) == 'number' and 1 or 0 }
