-- The common case, before anything is defined that it does not need: making the functions of the whole script costs
-- more than the commands do. Nobody holds the key, waits for it, was abandoned or lost, so there is only to grant. What is
-- written is what grant() writes; ARGV as in acquire.lua.
if ARGV[4] == 'x' and redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) == 0 then
  local known = redis.call('HMGET', KEYS[2], 't', 'x', 'l')
  local clock = redis.call('TIME')
  -- Seconds and six digits of microseconds, without their leading zeros, as milliseconds.
  local now_text = clock[1] .. string.sub('00000' .. clock[2], -6, -4)
  local token_text = ARGV[11] or now_text
  if not known[2] and not known[3] and tonumber(known[1] or 0) < tonumber(token_text) and #token_text < 14 then
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[5])
    redis.call('HSET', KEYS[2], 't', token_text, 'x',
      table.concat({ ARGV[3], ARGV[1], now_text, now_text, ARGV[5], ARGV[10] }, ' '))
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
    return { 1, tonumber(token_text), false, -1 }
  end
end

