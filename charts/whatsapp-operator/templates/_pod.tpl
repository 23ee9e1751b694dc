{{- /*
The claim of a call may be answered until the timeout is over; only then the call begins, which may take as long. Its
record gets 10 s a try.
*/ -}}
{{- define "whatsapp-operator.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (mul 2 (int .Values.graph.timeoutSeconds)) 30 -}}
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

{{- /* A constraint without a selector counts no pods: it would do nothing, without a word. */ -}}
{{- define "whatsapp-operator.topologySpreadConstraints" -}}
{{- $constraints := list -}}
{{- $selector := dict "matchLabels" (include "whatsapp-operator.selectorLabels" . | fromYaml) -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" $selector) .)) -}}
{{- end -}}
{{- toYaml $constraints -}}
{{- end -}}

{{- define "whatsapp-operator.podAnnotations" -}}
{{- $own := dict "kubectl.kubernetes.io/default-container" "operator" -}}
{{- /* The file is read once, at the start: other authorities need other pods. */ -}}
{{- with .Values.graph.caBundle -}}
{{- $_ := set $own "checksum/ca-bundle" (sha256sum .) -}}
{{- end -}}
{{- merge (dict) (default dict .Values.podAnnotations) $own | toYaml -}}
{{- end -}}

{{- /* Some parent charts list names, others objects with a name. */ -}}
{{- define "whatsapp-operator.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (default list (.Values.global).imagePullSecrets) (default list .Values.imagePullSecrets) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- uniq $secrets | toYaml -}}
{{- end -}}
