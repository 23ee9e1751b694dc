{{- /*
What the schema cannot say, or not in words that help, or not without repeating a secret. The operator checks most of it
at its start, but then a pod has to crash before anybody reads it.
*/ -}}
{{- define "whatsapp-operator.validate" -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values "" "graph" "image" "logging" "concurrency" "attemptLimit" "retryBase" "retryCap" "confirmWindow" "observeInterval" "deregistration") -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values.graph "graph." "baseUrl" "apiVersion" "timeoutSeconds") -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values.logging "logging." "level" "format") -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values.deregistration "deregistration." "deadline") -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values.metrics "metrics." "perNumber") -}}
{{- include "whatsapp-operator.validateNotNull" (list .Values.image "image." "repository") -}}
{{- include "whatsapp-operator.validateName" . -}}
{{- include "whatsapp-operator.validateImage" .Values.image -}}
{{- include "whatsapp-operator.validatePodSpec" .Values.podSpec -}}
{{- include "whatsapp-operator.validateGraph" .Values.graph -}}
{{- include "whatsapp-operator.validateProxy" (list "http_proxy" .Values.http_proxy) -}}
{{- include "whatsapp-operator.validateProxy" (list "https_proxy" .Values.https_proxy) -}}
{{- include "whatsapp-operator.validateStrategy" .Values.strategy -}}
{{- include "whatsapp-operator.validateRetry" .Values -}}
{{- include "whatsapp-operator.validateSelector" .Values -}}
{{- include "whatsapp-operator.validateLogLevel" .Values.logging -}}
{{- include "whatsapp-operator.validateTogether" .Values -}}
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

{{- /* The schema sees fullnameOverride and nameOverride, but not the name of the release. */ -}}
{{- define "whatsapp-operator.validateName" -}}
{{- $name := include "whatsapp-operator.fullname" . -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- fail (printf "\n\nThe full name, %s, begins with a digit, but the name of a Service must not.\nRename the release, or set fullnameOverride." $name) -}}
{{- end -}}
{{- end -}}

{{- /* A registry in both values would be no name of an image, and nothing to be replaced by a mirror. */ -}}
{{- define "whatsapp-operator.validateImage" -}}
{{- $first := splitList "/" .repository | first -}}
{{- if and (contains "/" .repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- fail (printf "\n\nimage.repository begins with a registry, %s.\nWrite it into image.registry, and only the rest, %s, into image.repository." $first (trimPrefix (printf "%s/" $first) .repository)) -}}
{{- end -}}
{{- end -}}

{{- /* The list would replace the operator. */ -}}
{{- define "whatsapp-operator.validatePodSpec" -}}
{{- if hasKey (default dict .) "containers" -}}
{{- fail "\n\npodSpec.containers would replace the operator's container.\nUse extraContainers for additional containers, and extraArgs, extraEnv, resources, securityContext and volumeMounts for the operator's own." -}}
{{- end -}}
{{- end -}}

{{- /* The values are not repeated: somebody may have put a password or a key there. */ -}}
{{- define "whatsapp-operator.validateGraph" -}}
{{- if not (regexMatch "^https?://[^\\s/?#@]+(/[^\\s?#]*)?$" .baseUrl) -}}
{{- fail "\n\ngraph.baseUrl cannot be used.\nUse https://, a host, and optionally a port and a path, but no user, no password and no query." -}}
{{- end -}}
{{- if and (hasPrefix "http://" .baseUrl) (not .allowInsecure) -}}
{{- if not (regexMatch "^http://(localhost|127(\\.[0-9]{1,3}){3}|\\[::1\\])(:[0-9]+)?(/|$)" .baseUrl) -}}
{{- fail "\n\ngraph.baseUrl is plain HTTP: tokens and PINs would be sent unencrypted.\nUse https://, or set graph.allowInsecure=true for a test." -}}
{{- end -}}
{{- end -}}
{{- with .caBundle -}}
{{- if contains "PRIVATE KEY" . -}}
{{- fail "\n\ngraph.caBundle contains a private key, which does not belong in a ConfigMap.\nKeep only the certificates." -}}
{{- else if not (regexMatch "(?s)-----BEGIN CERTIFICATE-----\r?\n.+\n-----END CERTIFICATE-----" .) -}}
{{- fail "\n\ngraph.caBundle contains no certificate.\nUse PEM text, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Neither here: whoever forgot the scheme may have written a password. Call it with a list: the name and the value. */ -}}
{{- define "whatsapp-operator.validateProxy" -}}
{{- $name := index . 0 -}}
{{- with index . 1 -}}
{{- if contains "@" . -}}
{{- fail (printf "\n\n%s contains a user or a password, and everybody who can read the Deployment would see it.\nLeave %s empty, and set %s by extraEnv from a Secret." $name $name (upper $name)) -}}
{{- else if not (regexMatch "^https?://[^\\s/?#]+/?$" .) -}}
{{- fail (printf "\n\n%s cannot be used.\nUse http:// or https://, a host, and optionally a port, but no path and no query." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* With neither more pods nor fewer, no pod could ever be replaced. Kubernetes says so only after the upgrade has begun. */ -}}
{{- define "whatsapp-operator.validateStrategy" -}}
{{- with .rollingUpdate -}}
{{- $surge := toString .maxSurge | trimSuffix "%" -}}
{{- $unavailable := toString .maxUnavailable | trimSuffix "%" -}}
{{- if and (eq $.type "RollingUpdate") (regexMatch "^0+$" $surge) (regexMatch "^0+$" $unavailable) -}}
{{- fail "\n\nstrategy.rollingUpdate has maxSurge and maxUnavailable at 0, so that no pod can be replaced.\nRaise one of them." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "whatsapp-operator.validateRetry" -}}
{{- $longest := include "whatsapp-operator.milliseconds" "72h" | int64 -}}
{{- range $name := list "retryBase" "retryCap" "confirmWindow" -}}
{{- $time := include "whatsapp-operator.milliseconds" (index $ $name) | int64 -}}
{{- if or (lt $time 1) (gt $time $longest) -}}
{{- fail (printf "\n\n%s is %s, out of range.\nUse a value above 0s and up to 72h." $name (index $ $name)) -}}
{{- end -}}
{{- end -}}
{{- if gt (include "whatsapp-operator.milliseconds" .retryBase | int64) (include "whatsapp-operator.milliseconds" .retryCap | int64) -}}
{{- fail (printf "\n\nretryBase, %s, is longer than retryCap, %s.\nLower it, or raise retryCap." .retryBase .retryCap) -}}
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

{{- define "whatsapp-operator.validateSelector" -}}
{{- $key := "([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?" -}}
{{- $value := "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?" -}}
{{- $isSet := printf "%s +(in|notin) *\\( *%s( *, *%s)* *\\)" $key $value $value -}}
{{- $requirement := printf " *(! *%s|%s|%s( *(=|==|!=) *%s)?) *" $key $isSet $key $value -}}
{{- with .selector -}}
{{- if not (regexMatch (printf "^%s(,%s)*$" $requirement $requirement) .) -}}
{{- fail (printf "\n\nselector is %q, which is not a label selector.\nUse one such as shard=a or shard in (a,b)." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A word that is no directive is a level: without this check a misspelt one would silence every log. */ -}}
{{- define "whatsapp-operator.validateLogLevel" -}}
{{- range splitList "," .level -}}
{{- if not (or (contains "=" .) (contains "[" .) (regexMatch "(?i)^(off|error|warn|info|debug|trace)$" (trim .))) -}}
{{- fail (printf "\n\nlogging.level: %q is not a log level.\nUse error, warn, info, debug or trace, or directives such as info,whatsapp_operator=debug." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Values that only make sense together. */ -}}
{{- define "whatsapp-operator.validateTogether" -}}
{{- if not (or .serviceAccount.create .serviceAccount.name) -}}
{{- fail "\n\nserviceAccount.create is false, but serviceAccount.name is empty.\nSet the name. The ServiceAccount \"default\" would give the permissions to every pod in the namespace: name it only if you want that." -}}
{{- end -}}
{{- with .podDisruptionBudget -}}
{{- if not (or (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable)) -}}
{{- fail "\n\npodDisruptionBudget has both minAvailable and maxUnavailable, but Kubernetes allows one of them.\nRemove one." -}}
{{- end -}}
{{- end -}}
{{- if and .metrics.serviceMonitor.enabled (not .metrics.service.enabled) -}}
{{- fail "\n\nmetrics.serviceMonitor needs the Service that metrics.service.enabled=false turns off.\nSet metrics.service.enabled=true, or use metrics.podMonitor." -}}
{{- end -}}
{{- end -}}
