-- Sends every row in turn and checks that each reply holds the answer to the row it names.
local bodies, answers = {}, {}
local path = os.getenv("LOAD_BODIES")
local number = 0
for line in io.lines(path) do
  if number % 2 == 0 then bodies[#bodies + 1] = line else answers[#bodies] = tonumber(line) end
  number = number + 1
end
local requests, counter = {}, 0
local threads = {}

function setup(thread) table.insert(threads, thread) end

function init(args)
  wrong, right = 0, 0
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", nil, {
      ["Content-Type"] = "application/json",
      ["Authorization"] = "Bearer " .. os.getenv("LOAD_KEY"),
    }, body)
  end
end

function request()
  counter = counter % #requests + 1
  return requests[counter]
end

function response(status, headers, body)
  local id = string.match(body, '"id":%s?"(%d+)"')
  local value = string.match(body, '"data":%s?%[([%d%.eE+-]+)')
  local wanted = id and answers[tonumber(id) + 1]
  if status == 200 and value and wanted and math.abs(tonumber(value) - wanted) < 1e-4 then
    right = right + 1
  else
    wrong = wrong + 1
  end
end

function done(summary, latency, rates)
  local wrong, right = 0, 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    right = right + thread:get("right")
  end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"right":%d,"wrong":%d,"errors":%d,"duration_s":%f,"p50_ms":%f,"p99_ms":%f}\n',
    right, wrong, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
