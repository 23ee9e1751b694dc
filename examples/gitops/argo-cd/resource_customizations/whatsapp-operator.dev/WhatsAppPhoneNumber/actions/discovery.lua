local suspended = obj.spec.suspend == true
-- A request that exists before the operator has seen the resource counts as handled.
local seen = obj.status ~= nil and (obj.status.observedGeneration or -1) >= 0

local actions = {}
actions["register"] = { ["disabled"] = suspended or not seen }
actions["suspend"] = { ["disabled"] = suspended }
actions["resume"] = { ["disabled"] = not suspended }
return actions
