{{- /* Longer than the longest call and its record, which gets 10 s a try. */ -}}
{{- define "whatsapp-operator.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (int .Values.graph.timeoutSeconds) 30 -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{- /* Two replicas on one node would fail together. */ -}}
{{- define "whatsapp-operator.affinity" -}}
{{- if .Values.affinity -}}
{{- toYaml .Values.affinity -}}
{{- else if gt (int .Values.replicaCount) 1 -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "whatsapp-operator.selectorLabels" . | nindent 12 }}
{{- end -}}
{{- end -}}
