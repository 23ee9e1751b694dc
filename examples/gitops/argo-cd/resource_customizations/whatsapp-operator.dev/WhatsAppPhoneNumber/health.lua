-- The conditions follow kstatus: whatsapp-operator.github.io/whatsapp-operator/concepts/retrying.html#conditions
local health = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local ready, failed, stalled = found.Ready, found.Failed, found.Stalled
if ready == nil then
  return health
end

health.message = ready.message
if ready.status == "True" then
  health.status = "Healthy"
  -- A requested call can fail; the number stays registered.
  if failed ~= nil and failed.status == "True" then
    health.message = "Registered; the requested call failed. " .. failed.message
  end
elseif stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
elseif ready.reason == "Suspended" then
  health.status = "Suspended"
end
return health
