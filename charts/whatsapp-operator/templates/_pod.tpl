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

{{- /* The spec of the pods, with the fields for which there is no value. */ -}}
{{- define "whatsapp-operator.podSpec" -}}
{{- $own := include "whatsapp-operator.ownPodSpec" . -}}
{{- with .Values.podSpec -}}
{{- mustMergeOverwrite ($own | fromYaml) (deepCopy .) | toYaml -}}
{{- else -}}
{{- $own -}}
{{- end -}}
{{- end -}}

{{- define "whatsapp-operator.ownPodSpec" -}}
serviceAccountName: {{ include "whatsapp-operator.serviceAccountName" . | quote }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
enableServiceLinks: {{ .Values.enableServiceLinks }}
# Calls under way are ended and recorded when the pod stops.
terminationGracePeriodSeconds: {{ include "whatsapp-operator.terminationGracePeriodSeconds" . }}
{{- with include "whatsapp-operator.imagePullSecrets" . | fromYamlArray }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.hostUsers) }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . | quote }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: operator
    image: {{ include "whatsapp-operator.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - run
      {{- with .Values.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    env:
      {{- include "whatsapp-operator.env" . | nindent 6 }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: 8080
        protocol: TCP
    livenessProbe:
      httpGet:
        path: /livez
        port: http
      {{- with .Values.livenessProbe }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    readinessProbe:
      httpGet:
        path: /readyz
        port: http
      {{- with .Values.readinessProbe }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .Values.startupProbe }}
    startupProbe:
      httpGet:
        path: /livez
        port: http
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if or .Values.graph.caBundle .Values.volumeMounts }}
    volumeMounts:
      {{- if .Values.graph.caBundle }}
      - name: ca-bundle
        mountPath: /etc/whatsapp-operator/ca
        readOnly: true
      {{- end }}
      {{- with .Values.volumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.graph.caBundle .Values.volumes }}
volumes:
  {{- if .Values.graph.caBundle }}
  - name: ca-bundle
    configMap:
      name: {{ include "whatsapp-operator.suffixed" (list . "ca") | quote }}
  {{- end }}
  {{- with .Values.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "whatsapp-operator.affinity" . }}
affinity:
  {{- . | nindent 2 }}
{{- end }}
{{- with include "whatsapp-operator.topologySpreadConstraints" . | fromYamlArray }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
