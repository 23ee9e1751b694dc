{{- /* A rule. Call it with a list: what it is about as `{to, ports}`, and the protocols. */ -}}
{{- define "whatsapp-operator.egress" -}}
{{- $peers := index . 0 -}}
{{- $protocols := slice . 1 -}}
- ports:
    {{- range $port := $peers.ports }}
    {{- range $protocols }}
    - port: {{ int $port }}
      protocol: {{ . }}
    {{- end }}
    {{- end }}
  {{- with $peers.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* The port of a URL. */ -}}
{{- define "whatsapp-operator.port" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- default (eq $url.scheme "http" | ternary "80" "443") $port -}}
{{- end -}}

{{- define "whatsapp-operator.graphEgress" -}}
{{- with .Values.networkPolicy.graph -}}
{{- dict "to" .to "ports" (default (list (include "whatsapp-operator.port" $.Values.graph.baseUrl)) .ports) | toYaml -}}
{{- end -}}
{{- end -}}

{{- /* Nothing without a proxy. */ -}}
{{- define "whatsapp-operator.proxyEgress" -}}
{{- $ports := list -}}
{{- range compact (list .Values.http_proxy .Values.https_proxy) -}}
{{- $ports = append $ports (include "whatsapp-operator.port" .) -}}
{{- end -}}
{{- with .Values.networkPolicy.proxy -}}
{{- with default (uniq $ports) .ports -}}
{{- dict "to" $.Values.networkPolicy.proxy.to "ports" . | toYaml -}}
{{- end -}}
{{- end -}}
{{- end -}}
