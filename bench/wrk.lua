-- Sends the requests of a file in turn, each with an id of its own, and sums up as one line of JSON.
--
--   wrk ... --script wrk.lua URL -- FILE
--
-- FILE holds whole HTTP requests between NUL bytes; "10000000" marks where the id goes (the first
-- place only). One thread: the turns are counted here.

local PLACE = '"id":10000000'
local before, after = {}, {}
local turn, id = 0, 10000000

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   local text = file:read("*a")
   file:close()
   local start = 1
   while start <= #text do
      local stop = text:find("\0", start, true) or #text + 1
      local request = text:sub(start, stop - 1)
      local first, last = request:find(PLACE, 1, true)
      before[#before + 1] = request:sub(1, last - 8)
      after[#after + 1] = request:sub(last + 1)
      start = stop + 1
   end
end

function request()
   turn = turn % #before + 1
   id = id + 1
   return before[turn] .. id .. after[turn]
end

function done(summary, latency)
   local failed = summary.errors
   io.write(string.format(
      '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,'
         .. '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
      failed.connect, failed.read, failed.write, failed.timeout, failed.status))
end
