-- The common case, as in acquire_free.lua: an exclusive hold that nobody waits for ends, and nothing is asked for.
if ARGV[4] == 'x' and not ARGV[5] and redis.call('EXISTS', KEYS[4]) == 0
  and redis.call('GET', KEYS[1]) == ARGV[3] then
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[2], 'x')
  return { 1, false }
end

