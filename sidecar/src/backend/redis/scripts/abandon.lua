
-- ARGV: id, mode, how long it is remembered. Answers 1: no call of this id that is still on its way can take effect.
local id, till = ARGV[1], now + tonumber(ARGV[3])
call('ZREMRANGEBYSCORE', TOMBS, '-inf', now)
call('ZADD', TOMBS, till, id)
if call('PEXPIRETIME', TOMBS) < till then call('PEXPIREAT', TOMBS, till) end
local held = let_go(id, ARGV[2])
local waited = drop_place(id)
if (held or waited) and call('EXISTS', QUEUE) == 1 then
  load()
  wake(nil)
end
return 1
