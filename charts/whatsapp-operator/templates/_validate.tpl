{{- /*
What the schema cannot say, or not in words that help. The operator checks most of it at its start, but then a pod has
to crash before anybody reads it.
*/ -}}
{{- define "whatsapp-operator.validate" -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values "" "graph" "image" "logging" "concurrency" "attemptLimit" "retryBase" "retryCap" "confirmWindow") -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values.graph "graph." "baseUrl" "apiVersion" "timeoutSeconds") -}}
{{- include "whatsapp-operator.validateGraph" .Values.graph -}}
{{- include "whatsapp-operator.validateRetry" .Values -}}
{{- with .Values.podDisruptionBudget -}}
{{- if not (or (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable)) -}}
{{- fail "\n\npodDisruptionBudget has minAvailable and maxUnavailable, and Kubernetes allows one of them.\nRemove one." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) -}}
{{- fail "\n\nmetrics.serviceMonitor needs the Service that metrics.service.enabled=false leaves out.\nSet metrics.service.enabled=true, or use metrics.podMonitor." -}}
{{- end -}}
{{- end -}}

{{- /* `null` takes a default away, and the schema sees nothing of it. */ -}}
{{- define "whatsapp-operator.validateNotNull" -}}
{{- $values := index . 0 -}}
{{- $prefix := index . 1 -}}
{{- range slice . 2 -}}
{{- if kindIs "invalid" (index $values .) -}}
{{- fail (printf "\n\n%s%s is null, and the operator needs a value.\nRemove the line to get the default." $prefix .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "whatsapp-operator.validateGraph" -}}
{{- if and (hasPrefix "http://" .baseUrl) (not .allowInsecure) -}}
{{- if not (regexMatch "^http://(localhost|127(\\.[0-9]{1,3}){3}|\\[::1\\])(:[0-9]+)?(/|$)" .baseUrl) -}}
{{- fail (printf "\n\ngraph.baseUrl is %s: plain http would send tokens and PINs unencrypted.\nWrite https://, or set graph.allowInsecure=true for a test." .baseUrl) -}}
{{- end -}}
{{- end -}}
{{- if contains "PRIVATE KEY" (default "" .caBundle) -}}
{{- fail "\n\ngraph.caBundle holds a private key, and a ConfigMap is no place for it.\nLeave only certificates there, and take the key for known to others if this was stored anywhere." -}}
{{- end -}}
{{- end -}}

{{- define "whatsapp-operator.validateRetry" -}}
{{- $longest := include "whatsapp-operator.milliseconds" "72h" | int64 -}}
{{- range $name := list "retryBase" "retryCap" "confirmWindow" -}}
{{- $time := include "whatsapp-operator.milliseconds" (index $ $name) | int64 -}}
{{- if or (lt $time 1) (gt $time $longest) -}}
{{- fail (printf "\n\n%s is %s, out of range.\nWrite more than 0s and at most 72h." $name (index $ $name)) -}}
{{- end -}}
{{- end -}}
{{- if gt (include "whatsapp-operator.milliseconds" .retryBase | int64) (include "whatsapp-operator.milliseconds" .retryCap | int64) -}}
{{- fail (printf "\n\nretryBase, %s, is longer than retryCap, %s.\nWrite a shorter one, or raise retryCap." .retryBase .retryCap) -}}
{{- end -}}
{{- end -}}

{{- /* Of a duration such as 1h30m. */ -}}
{{- define "whatsapp-operator.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" .) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}
