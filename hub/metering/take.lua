-- Takes from all counters of a call, or from none.
--
-- KEYS: the epoch's key, then the key of each counter.
-- ARGV: epoch, hold, micro-units, milliseconds of a lease; then for each counter its kind (a capital
-- letter: it never denies), its amount and four more, by kind:
--   r rate         microseconds of one call, of a full bucket, where an unknown bucket begins, -
--   q quota        start and end of the period, seconds to keep it, field in the spent hash
--   c concurrency  -, -, -, -
--   b budget       as quota
-- Answers "?" where the epoch is another; "0" and what is used now of each quota and budget; or "1",
-- the number of the counter that denies, what is left of it, microseconds until there is more.
--
-- Numbers of Lua are doubles: every amount, sum and moment here stays below 2^53.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.status_reply('?')
end

local hold, micro, lease_ms = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local space = string.sub(KEYS[1], 1, -6) .. string.match(ARGV[1], '^[^:]*')

-- What was used of a period before anybody counted it here.
local function before(which, start, ending, field)
  local spent = redis.call('HMGET', space .. ':spent', '', field)
  local at = tonumber(spent[1] or -1)
  if not spent[2] or at < tonumber(start) or at >= tonumber(ending) then
    return 0
  end
  return tonumber(string.match(spent[2], which))
end

local used, next_us, held = {}, {}, {}

for i = 2, #KEYS do
  local key, a = KEYS[i], 6 * i - 8
  local kind, amount = ARGV[a + 1], tonumber(ARGV[a + 2])
  local name = string.lower(kind)
  local cost, left, reset_us = 1, 0, -1
  if name == 'r' then
    local full_us = tonumber(redis.call('GET', key) or ARGV[a + 5])
    local interval_us, depth_us = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
    full_us = math.min(math.max(full_us, now_us), now_us + depth_us)
    next_us[i] = full_us + interval_us
    reset_us = next_us[i] - depth_us - now_us
    if reset_us <= 0 then cost = 0 end
  elseif name == 'q' then
    used[i] = tonumber(redis.call('GET', key)
      or before('^%d+', ARGV[a + 3], ARGV[a + 4], ARGV[a + 6]))
    left = amount - used[i]
  elseif name == 'c' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms)
    left = amount - redis.call('ZCARD', key)
    held[i] = redis.call('ZSCORE', key, hold)
  else
    local leases = key .. ':leases'
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now_ms)) do
      redis.call('ZREM', leases, member)
      redis.call('HINCRBY', key, 'reserved', '-' .. string.match(member, '%d+$'))
    end
    local sums = redis.call('HMGET', key, 'spent', 'reserved')
    if not sums[1] then
      sums[1] = before('%d+$', ARGV[a + 3], ARGV[a + 4], ARGV[a + 6])
      redis.call('HSET', key, 'spent', sums[1])
      redis.call('EXPIRE', key, ARGV[a + 5])
    end
    held[i] = redis.call('ZSCORE', leases, hold .. '|' .. ARGV[3])
    cost, used[i] = micro, tonumber(sums[1]) + tonumber(sums[2] or 0)
    left = amount - used[i]
  end
  if cost > left and cost > 0 and kind == name and not held[i] then
    return redis.status_reply(
      string.format('1 %d %.0f %.0f', i - 2, math.max(left, 0), reset_us))
  end
end

local answer = {'0'}
for i = 2, #KEYS do
  local key, a = KEYS[i], 6 * i - 8
  local name = string.lower(ARGV[a + 1])
  if name == 'r' then
    redis.call('SET', key, string.format('%.0f', next_us[i]), 'PX',
      math.floor((next_us[i] - now_us) / 1000) + 1)
  elseif name == 'q' then
    used[i] = used[i] + 1
    redis.call('SET', key, string.format('%.0f', used[i]), 'EX', ARGV[a + 5])
  elseif not held[i] and (name == 'c' or micro > 0) then
    local leases, member = key, hold
    if name == 'b' then
      leases, member = key .. ':leases', hold .. '|' .. ARGV[3]
      redis.call('HINCRBY', key, 'reserved', ARGV[3])
      used[i] = used[i] + micro
    end
    redis.call('ZADD', leases, now_ms + lease_ms, member)
    if name == 'b' then
      -- As long as the sums: what is reserved is known by nothing else.
      redis.call('EXPIRE', leases, ARGV[a + 5])
    else
      redis.call('PEXPIRE', leases, 2 * lease_ms)
    end
  end
  if used[i] then
    answer[#answer + 1] = string.format('%.0f', used[i])
  end
end
return redis.status_reply(table.concat(answer, ' '))
