
-- ARGV: channel, remember, id, mode, then an attempt if there is a next one.
-- Answers {whether it was the owner, the answer to the next attempt or false}.
local was_owner = let_go(ARGV[3], ARGV[4])
local next_answer, asking = false, nil
if ARGV[5] then
  local a = attempt(5)
  next_answer, asking = acquire(a), a.id
  if next_answer.err then return next_answer end
elseif call('EXISTS', QUEUE) == 1 then
  -- One of several nodes may have seen the attempt wait and never hold.
  drop_place(ARGV[3])
  if was_owner then load() end
end
if state then wake(asking) end
return { was_owner and 1 or 0, next_answer }
