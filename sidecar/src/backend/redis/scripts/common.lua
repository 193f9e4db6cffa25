-- What all scripts of one lock share. KEYS: the lock's five keys, all under one hash tag.
--   LOCK    string: the id of the exclusive holder; expires by itself at the end of its ttl
--   META    hash: t last token; x the exclusive holder, "id channel since renewed ttl owner"; l when the last holder
--           was lost; s<id> a shared holder, "token channel since owner"; w<id> a place, mode, channel and end
--   SHARED  zset: shared holders by the end of their ttl
--   QUEUE   zset: places by when their callers came
--   TOMBS   zset: abandoned ids by when they are forgotten
-- Times are milliseconds of the server's clock. META, SHARED and QUEUE live `remember` beyond their last use, so
-- that what is kept of them agrees; dead entries are dropped when they are met.
-- A number that becomes an argument costs more than a command that is small, so texts are passed on as they came and
-- `now` is made a text once.
local LOCK, META, SHARED, QUEUE, TOMBS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call
local MAX_TOKEN = 8796093022207 -- 2^43 - 1

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)

-- What is read once by load().
local state

-- Whether holders of both modes ('x' or 's') may hold together.
local function is_compatible(a, b)
  return a == 's' and b == 's'
end

-- Hints are never worth a lock: one that the ACL forbids is not an error.
local function publish(channel, message)
  redis.pcall('PUBLISH', 'pawl:ch:' .. channel, message)
end

local function key_name()
  return string.match(LOCK, '|(.*)}$')
end

-- Calls visit(id, mode, channel, till, came) for the places in order, until it answers true. Drops dead ones.
local function each_place(visit)
  local from, step = 0, 4
  while true do
    local places = call('ZRANGE', QUEUE, from, from + step - 1, 'WITHSCORES')
    if #places == 0 then return end
    local fields = {}
    for i = 1, #places, 2 do fields[#fields + 1] = 'w' .. places[i] end
    local details = call('HMGET', META, unpack(fields))
    local stop = false
    for i, detail in ipairs(details) do
      local id, came = places[2 * i - 1], tonumber(places[2 * i])
      local till = detail and tonumber(string.sub(detail, 18)) or 0
      if till <= now then
        call('ZREM', QUEUE, id)
        call('HDEL', META, 'w' .. id)
      else
        from = from + 1
        if visit(id, string.sub(detail, 1, 1), string.sub(detail, 2, 17), till, came) then
          stop = true
          break
        end
      end
    end
    if stop or #places < 2 * step then return end
    step = 32
  end
end

-- The exclusive holder's id, channel, beginning, end and owner.
local function exclusive_details(text)
  local id, channel, since, renewed, ttl, owner = string.match(text, '^(%x+) (%x+) (%d+) (%d+) (%d+) (.*)$')
  return id, channel, since, renewed + ttl, owner
end

-- Notes the exclusive holder, until the end of its ttl, now renewed.
local function exclusive_text(id, channel, since, ttl, owner)
  return table.concat({ id, channel, since, now_text, ttl, owner }, ' ')
end

-- Reads holders; notes those that were lost.
local function load()
  local meta = call('HMGET', META, 't', 'x', 'l')
  state = {
    token = tonumber(meta[1]) or 0,
    exclusive = call('GET', LOCK),
    lost = tonumber(meta[3]),
    shared = {},
  }
  local lost = nil
  if meta[2] then
    local id, channel, since, till, owner = exclusive_details(meta[2])
    if id == state.exclusive then
      state.channel, state.since, state.till, state.owner = channel, since, till, owner
    else
      lost = math.min(till, now)
      call('HDEL', META, 'x')
    end
  end
  state.has_more = call('EXISTS', SHARED, QUEUE, TOMBS) > 0
  if state.has_more then
    local holders = call('ZRANGE', SHARED, 0, -1, 'WITHSCORES')
    for i = 1, #holders, 2 do
      local id, till = holders[i], tonumber(holders[i + 1])
      if till > now then
        state.shared[#state.shared + 1] = { id = id, till = till }
      else
        call('ZREM', SHARED, id)
        call('HDEL', META, 's' .. id)
        lost = math.max(lost or 0, till)
      end
    end
  end
  if lost and lost > (state.lost or 0) then
    state.lost = lost
    call('HSET', META, 'l', lost)
  end
end

-- A shared holder's token, channel, beginning and owner.
local function shared_details(id)
  local detail = call('HGET', META, 's' .. id)
  if not detail then return '0', '', now_text, '' end
  local token, channel, since, owner = string.match(detail, '^(%d+) (%x+) (%d+) (.*)$')
  return token, channel, since, owner
end

-- The oldest place that a hold in this mode stands in the way of, as mode and age; false and -1 if there is none.
local function wanted(mode, own)
  local found, age = false, -1
  each_place(function(id, place_mode, _, _, came)
    if id ~= own and not is_compatible(place_mode, mode) then
      found, age = place_mode, math.max(now - came, 0)
      return true
    end
  end)
  return found, age
end

-- Tells the places at the head that no holder stands in the way of; not the one that is asking.
local function wake(asking)
  local is_first = true
  each_place(function(id, mode, channel)
    if state.exclusive or (mode == 'x' and (#state.shared > 0 or not is_first)) then return true end
    is_first = false
    if id ~= asking then publish(channel, 'T ' .. key_name()) end
    return mode == 'x'
  end)
end

local function drop_place(id)
  if call('ZREM', QUEUE, id) == 1 then
    call('HDEL', META, 'w' .. id)
    return true
  end
  return false
end

-- Writes the attempt's place: new, refreshed, or dated back further.
local function take_place(a)
  call('ZADD', QUEUE, string.format('%.0f', a.came), a.id)
  call('HSET', META, 'w' .. a.id, a.mode .. a.channel .. string.format('%.0f', now + a.keep))
  call('PEXPIRE', QUEUE, a.remember)
  call('PEXPIRE', META, a.remember)
  state.has_more = true
end

-- Ends the hold of this id, if it is there. Needs load() only for wake() afterwards.
local function let_go(id, mode)
  if mode == 's' then
    if call('ZREM', SHARED, id) == 0 then return false end
    call('HDEL', META, 's' .. id)
    return true
  end
  if call('GET', LOCK) ~= id then return false end
  call('DEL', LOCK)
  call('HDEL', META, 'x')
  return true
end
