{{- /*
Name and namespace of an object that others may expect in a namespace of theirs. Call it with a list: the root context
and that namespace, if there is one. Releases in different namespaces can have one name, hence the longer name there.
*/ -}}
{{- define "whatsapp-operator.monitoringName" -}}
{{- $own := include "whatsapp-operator.namespace" (index . 0) -}}
{{- $namespace := default $own (index . 1) -}}
{{- if eq $namespace $own -}}
name: {{ include "whatsapp-operator.fullname" (index . 0) | quote }}
{{- else -}}
name: {{ include "whatsapp-operator.clusterName" (list (index . 0) "metrics") | quote }}
{{- end }}
namespace: {{ $namespace | quote }}
{{- end -}}

{{- /* What a ServiceMonitor and a PodMonitor say of the port. Call it with the values of either. */ -}}
{{- define "whatsapp-operator.metricsEndpoint" -}}
- port: http
  path: /metrics
  # The alerts and the dashboard need it: metrics that are about a number have its namespace in the label `namespace`.
  honorLabels: {{ .honorLabels }}
  {{- with .interval }}
  interval: {{ . | quote }}
  {{- end }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ . | quote }}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /*
The groups of the rules file without the alerts that are disabled, and with the runbook's address. The file is read as
data: what stands between braces in it is for Prometheus. Call it with a list: the text of the file and the values.
*/ -}}
{{- define "whatsapp-operator.alertGroups" -}}
{{- $values := index . 1 -}}
{{- $names := list -}}
{{- $groups := list -}}
{{- range $group := (index . 0 | fromYaml).groups -}}
{{- $rules := list -}}
{{- range $rule := .rules -}}
{{- $names = append $names .alert -}}
{{- if $values.runbookUrl -}}
{{- $_ := set .annotations "runbook_url" (regexReplaceAllLiteral "^[^#]*" .annotations.runbook_url $values.runbookUrl) -}}
{{- else -}}
{{- $_ := unset .annotations "runbook_url" -}}
{{- end -}}
{{- if not (get (default dict $values.disabled) .alert) -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (set . "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.disabled -}}
{{- if not (has $name $names) -}}
{{- fail (printf "\n\nmetrics.prometheusRule.disabled names %s, and there is no such alert.\nThe alerts are: %s." $name (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
