-- Requests one register call. Each new value leads to at most one call.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["whatsapp-operator.dev/register-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
