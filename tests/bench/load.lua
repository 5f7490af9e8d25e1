-- The load of wrk: bodies by their shares, each with a ticket and a number of its own.
--
--   wrk ... -s load.lua URL -- FILE SEED PROJECTS FIRST_PROJECT TICKETS
--
-- FILE has lines of a share, a tab and a body with @ticket, @project and @n.
local projects, first_project, tickets
local threads = 0
local templates = {} -- one entry for each part of a share
local head
local n = 0

function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

-- Cuts a body at its placeholders: every second part is the name of one.
local function cut(body)
    local parts, from = {}, 1
    for before, name, after in body:gmatch("()@(%l+)()") do
        if name == "ticket" or name == "project" or name == "n" then
            parts[#parts + 1] = body:sub(from, before - 1)
            parts[#parts + 1] = name
            from = after
        end
    end
    parts[#parts + 1] = body:sub(from)
    return parts
end

function init(arguments)
    for line in io.lines(arguments[1]) do
        local share, body = line:match("^(%d+)\t(.*)$")
        local parts = cut(body)
        for _ = 1, tonumber(share) do
            templates[#templates + 1] = parts
        end
    end
    math.randomseed(tonumber(arguments[2]) + id * 7919)
    projects, first_project, tickets = tonumber(arguments[3]), tonumber(arguments[4]), tonumber(arguments[5])
    head = string.format("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: ",
        wrk.path, wrk.headers["Host"])
end

local values, filled = {}, {}

function request()
    local parts = templates[math.random(#templates)]
    local k = math.random(0, tickets - 1)
    n = n + 1
    values.ticket = math.floor(k / projects) + 1
    values.project = first_project + k % projects
    values.n = n * 2 + id
    for i = 1, #parts do
        filled[i] = i % 2 == 0 and values[parts[i]] or parts[i]
    end
    local body = table.concat(filled, "", 1, #parts)
    return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format('{"us":%d,"answers":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d}\n', summary.duration,
        summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
