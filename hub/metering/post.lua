-- Applies what nobody waits for: ends of calls, leases renewed, calls counted elsewhere.
--
-- KEYS: the epoch's key.
-- ARGV: epoch, or nothing while it is being made; the name of its keys' space; process; number of
-- this batch; milliseconds of a lease; milliseconds that a process counts as alive, 0: it leaves.
-- Then, one after the other:
--   f key hold                                       a call no longer runs
--   h key hold                                       a call runs
--   s key hold reserved cost start end keep field    money was spent; reserved for it was ...
--   r key hold micro    start end keep field         money is reserved
--   q key calls         start end keep field         calls were made
-- Batches of a process are numbered upwards; one that was applied is not applied again.
-- Answers "?" where the epoch is another; else "0" and all processes that are alive.
--
-- Numbers of Lua are doubles: every amount, sum and moment here stays below 2^53.

local current = redis.call('GET', KEYS[1])
if ARGV[1] ~= '' and current ~= ARGV[1] then
  return redis.status_reply('?')
end

local space, process, number = ARGV[2], ARGV[3], tonumber(ARGV[4])
local lease_ms, alive_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local applied = space .. ':applied:' .. process
local a = 7

local function take(count)
  a = a + count
  return unpack(ARGV, a - count, a - 1)
end

local function before(which, start, ending, field)
  local spent = redis.call('HMGET', space .. ':spent', '', field)
  local at = tonumber(spent[1] or -1)
  if not spent[2] or at < tonumber(start) or at >= tonumber(ending) then
    return 0
  end
  return tonumber(string.match(spent[2], which))
end

-- A budget's sums are made with what was spent before.
local function begun(key, start, ending, keep, field)
  if redis.call('HEXISTS', key, 'spent') == 0 then
    redis.call('HSET', key, 'spent', before('%d+$', start, ending, field))
  end
  redis.call('EXPIRE', key, keep)
end

local apply = {
  f = function()
    redis.call('ZREM', take(2))
  end,
  h = function()
    local key, hold = take(2)
    redis.call('ZADD', key, now_ms + lease_ms, hold)
    redis.call('PEXPIRE', key, 2 * lease_ms)
  end,
  s = function()
    local key, hold, reserved, cost, start, ending, keep, field = take(8)
    begun(key, start, ending, keep, field)
    if reserved ~= '0' and redis.call('ZREM', key .. ':leases', hold .. '|' .. reserved) == 1 then
      redis.call('HINCRBY', key, 'reserved', '-' .. reserved)
    end
    redis.call('HINCRBY', key, 'spent', cost)
  end,
  r = function()
    local key, hold, micro, start, ending, keep, field = take(7)
    begun(key, start, ending, keep, field)
    if redis.call('ZADD', key .. ':leases', now_ms + lease_ms, hold .. '|' .. micro) == 1 then
      redis.call('HINCRBY', key, 'reserved', micro)
    end
    redis.call('EXPIRE', key .. ':leases', keep)
  end,
  q = function()
    local key, calls, start, ending, keep, field = take(6)
    if redis.call('EXISTS', key) == 0 then
      redis.call('SET', key, before('^%d+', start, ending, field))
    end
    redis.call('INCRBY', key, calls)
    redis.call('EXPIRE', key, keep)
  end,
}

if number > tonumber(redis.call('GET', applied) or 0) then
  redis.call('SET', applied, number, 'EX', 86400)
  while a <= #ARGV do
    apply[take(1)]()
  end
end

local alive = space .. ':alive'
if alive_ms > 0 then
  redis.call('ZADD', alive, now_ms + alive_ms, process)
  redis.call('PEXPIRE', alive, 2 * alive_ms)
else
  redis.call('ZREM', alive, process)
end
redis.call('ZREMRANGEBYSCORE', alive, '-inf', now_ms)
return redis.status_reply('0 ' .. table.concat(redis.call('ZRANGE', alive, 0, -1), ' '))
