{{- /* What the schema cannot say, or not in words that help. The operator checks the same at its start, but then the pods crash. */ -}}
{{- define "whatsapp-operator.validate" -}}
{{- if and (hasPrefix "http://" .Values.graph.baseUrl) (not .Values.graph.allowInsecure) -}}
{{- if not (regexMatch "^http://(localhost|127\\.[0-9.]+|\\[::1\\])(:[0-9]+)?(/.*)?$" .Values.graph.baseUrl) -}}
{{- fail (printf "\n\ngraph.baseUrl is %s: plain http would send tokens and PINs unencrypted.\nWrite https://, or set graph.allowInsecure=true for a test." .Values.graph.baseUrl) -}}
{{- end -}}
{{- end -}}
{{- end -}}
