
-- Answers {1, token, wanted mode or false, its age} or
-- {0, ahead, retry in, holder's mode or false, its token, held for, expires in, owner}; -1 is not known.
local function granted(token, mode, id)
  local want, age = false, -1
  if state.has_more then want, age = wanted(mode, id) end
  return { 1, token, want, age }
end

local function note_shared(a, token, since)
  call('ZADD', SHARED, now + a.ttl, a.id)
  call('PEXPIRE', SHARED, a.remember)
  return table.concat({ token, a.channel, since, a.owner }, ' ')
end

local function extend(a, holder)
  local token = state.token
  if a.proposed then
    local left = (holder and holder.till or state.till or now) - now
    if left > tonumber(a.ttl) then a.ttl = string.format('%.0f', left) end
  end
  if holder then
    local held_token, _, since = shared_details(a.id)
    token = tonumber(held_token)
    call('HSET', META, 's' .. a.id, note_shared(a, held_token, since))
  else
    call('PEXPIRE', LOCK, a.ttl)
    call('HSET', META, 'x', exclusive_text(a.id, a.channel, state.since or now_text, a.ttl, a.owner))
  end
  call('PEXPIRE', META, a.remember)
  if state.has_more then drop_place(a.id) end
  return granted(token, a.mode, a.id)
end

local function grant(a)
  local token, token_text = now, now_text
  if a.proposed then token, token_text = tonumber(a.proposed), a.proposed end
  if state.token >= token then
    token = state.token + 1
    token_text = string.format('%.0f', token)
  end
  if token > MAX_TOKEN then
    return redis.error_reply('PAWLCLOCK the clock of the server is beyond the range of tokens')
  end
  if state.has_more then drop_place(a.id) end
  if state.lost then call('HDEL', META, 'l') end
  if a.mode == 's' then
    call('HSET', META, 't', token_text, 's' .. a.id, note_shared(a, token_text, now_text))
    state.shared[#state.shared + 1] = { id = a.id, till = now + a.ttl }
  else
    call('SET', LOCK, a.id, 'PX', a.ttl)
    call('HSET', META, 't', token_text, 'x', exclusive_text(a.id, a.channel, now_text, a.ttl, a.owner))
    state.exclusive = a.id
  end
  call('PEXPIRE', META, a.remember)
  if state.has_more and a.mode == 's' then wake(a.id) end
  return granted(token, a.mode, a.id)
end

-- When the holders in the way will be gone, or the quiet time is over, or the place ahead is dead; nil if nothing is
-- in the way. Looked at before a place is written, so that who needs none costs none.
local function obstacle(a)
  if state.exclusive then return state.till or now end
  if a.mode == 'x' and #state.shared > 0 then return state.shared[#state.shared].till end
  if state.lost and state.lost + a.delay > now then return state.lost + a.delay end
  local ahead = nil
  if a.is_fifo and state.has_more then
    each_place(function(id, mode, _, till, came)
      if id == a.id or came > a.came then return true end
      if not is_compatible(mode, a.mode) then
        ahead = till
        return true
      end
    end)
  end
  return ahead
end

local function tell_holders(a)
  local message = 'W ' .. a.mode .. ' ' .. a.age .. ' ' .. key_name()
  if state.exclusive then
    if state.channel then publish(state.channel, message) end
  elseif a.mode == 'x' then
    for _, holder in ipairs(state.shared) do
      local _, channel = shared_details(holder.id)
      publish(channel, message)
    end
  end
end

local function busy(a, till)
  local ahead = 0
  if state.has_more then ahead = a.age >= 0 and call('ZRANK', QUEUE, a.id) or call('ZCARD', QUEUE) end
  local reply = { 0, ahead, math.max(till - now, 0) }
  if state.exclusive and state.owner then
    reply[4], reply[5], reply[6], reply[7], reply[8] =
      'x', state.token, math.max(now - state.since, 0), math.max(state.till - now, 0), state.owner
  elseif #state.shared > 0 then
    local token, _, since, owner = shared_details(state.shared[1].id)
    reply[4], reply[5], reply[6], reply[7], reply[8] =
      's', tonumber(token), math.max(now - since, 0), state.shared[1].till - now, owner
  else
    reply[4] = false
  end
  return reply
end

local function acquire(a)
  load()
  if state.has_more and tonumber(call('ZSCORE', TOMBS, a.id) or 0) > now then
    return { 0, -1, -1, false }
  end
  if state.exclusive == a.id then return extend(a, nil) end
  for _, holder in ipairs(state.shared) do
    if holder.id == a.id then return extend(a, holder) end
  end
  -- When its caller came, by the queue: a place that it has is never dated forward.
  a.came = now - math.max(a.age, 0)
  local had_place = state.has_more and call('ZSCORE', QUEUE, a.id)
  if had_place and a.age >= 0 then a.came = math.min(a.came, tonumber(had_place)) end
  if had_place and a.age < 0 then drop_place(a.id) end
  local till = obstacle(a)
  if not till then return grant(a) end
  if a.age >= 0 then
    take_place(a)
    tell_holders(a)
  end
  -- It gave up its place, or it polls: the head may have missed its turn.
  if had_place then wake(a.id) end
  return busy(a, till)
end

-- An attempt from eight arguments, and the token that the caller proposes where several nodes decide. Such a node
-- never brings an end forward: a call that comes late must not shorten what a later one extended.
local function attempt(from)
  local order = ARGV[from + 3]
  return {
    id = ARGV[from], mode = ARGV[from + 1], ttl = ARGV[from + 2], is_fifo = order == 'f',
    age = tonumber(ARGV[from + 4]), keep = tonumber(ARGV[from + 5]), delay = tonumber(ARGV[from + 6]),
    owner = ARGV[from + 7], channel = ARGV[1], remember = ARGV[2], proposed = ARGV[from + 8],
  }
end
