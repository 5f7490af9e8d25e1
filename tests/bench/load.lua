-- The load of wrk: updates over 50,000 tickets, each body another one.
local id = 0
local n = 0

function setup(thread)
    thread:set("tid", id)
    id = id + 1
end

function init()
    math.randomseed(os.time() + tid * 7919)
end

function request()
    n = n + 1
    local ticket = math.random(50000)
    return wrk.format("POST", nil, nil, string.format('{"action":"update","ticket":{"ticketId":%d,"projectId":130,' ..
        '"entityId":1814,"contactId":1220,"ticketNo":"130-20240215-%d","title":"bug %d.%d","type":"complaint",' ..
        '"description":"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor","status":"park",' ..
        '"subStatus":"waiting4agent","createdUserId":6,"createdUserName":"John Smith","projectName":"Manual",' ..
        '"agentName":"John Smith","agentUserName":"john_smith","userId":8,"firstOpenTime":"2024-02-15T15:46:46+01:00",' ..
        '"lastOpenTime":"2024-02-15T15:46:46+01:00","softDeadline":"2024-02-15T15:46:00+01:00"}}', ticket, ticket, tid, n))
end
