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

{{- /*
Whether an object of the Prometheus Operator is rendered: "true", or nothing. Call it with a list: the root context, its
values, its kind, and where the values are.
*/ -}}
{{- define "whatsapp-operator.isRendered" -}}
{{- $values := index . 1 -}}
{{- $api := printf "monitoring.coreos.com/v1/%s" (index . 2) -}}
{{- if $values.enabled -}}
{{- if or (eq $values.renderMode "alwaysRender") ((index . 0).Capabilities.APIVersions.Has $api) -}}
true
{{- else if eq $values.renderMode "failIfMissing" -}}
{{- fail (printf "\n\n%s.enabled is true, and the cluster does not know the kind %s.\nInstall the Prometheus Operator first, or set %s.renderMode=skipIfMissing. Without a cluster give helm template --api-versions %s." (index . 3) (index . 2) (index . 3) $api) -}}
{{- end -}}
{{- end -}}
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
The groups of the rules file without the alerts that are disabled, with the changes of single ones and the runbook's address.
The file is read as data: what stands between braces in it is for Prometheus. Call it with a list: the text of the file and the values.
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
{{- $override := get (default dict $values.overrides) .alert | default dict -}}
{{- with $override.for -}}
{{- $_ := set $rule "for" . -}}
{{- end -}}
{{- $severity := ternary (dict "severity" $override.severity) dict (not (empty $override.severity)) -}}
{{- $_ := set $rule "labels" (merge dict $severity (default dict $override.labels) (default dict $values.ruleLabels) .labels) -}}
{{- if not (get (default dict $values.disabled) .alert) -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (set . "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- range $field := list "disabled" "overrides" -}}
{{- range $name, $_ := get $values $field -}}
{{- if not (has $name $names) -}}
{{- fail (printf "\n\nmetrics.prometheusRule.%s names %s, and there is no such alert.\nThe alerts are: %s." $field $name (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
