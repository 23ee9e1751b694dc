-- Asks for one register call, without the read before it. Each new value gives at most one call.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["whatsapp-operator.dev/register-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
