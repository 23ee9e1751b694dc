{{- /* The chart's name, for labels. */ -}}
{{- define "whatsapp-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The full name: of the Deployment, and of the Lease, so that two releases do not share one. */ -}}
{{- define "whatsapp-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- /* A release may have a dot in its name, a Service may not. */ -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /*
The full name with something behind it, at most 63 characters together. Call it with a list: the root context and the
suffix. A suffix of up to 9 characters leaves the release's name whole, so that no two releases get one name.
*/ -}}
{{- define "whatsapp-operator.suffixed" -}}
{{- $room := sub 62 (index . 1 | len) | int -}}
{{- printf "%s-%s" (include "whatsapp-operator.fullname" (index . 0) | trunc $room | trimSuffix "-") (index . 1) -}}
{{- end -}}

{{- /*
A name for what is not in the release's namespace: with that namespace in it, as releases of one name in two namespaces
are two releases. Call it with a list: the root context and the suffix.
*/ -}}
{{- define "whatsapp-operator.clusterName" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s.%s" (include "whatsapp-operator.fullname" $root) (index . 1) (include "whatsapp-operator.namespace" $root) -}}
{{- end -}}

{{- define "whatsapp-operator.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{- define "whatsapp-operator.serviceAccountName" -}}
{{- default (include "whatsapp-operator.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- /* What the Deployment selects its pods by. It can never change. */ -}}
{{- define "whatsapp-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "whatsapp-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end -}}

{{- /* The labels of every object. */ -}}
{{- define "whatsapp-operator.labels" -}}
{{- include "whatsapp-operator.labelsWith" (list . dict) -}}
{{- end -}}

{{- /*
The same and more: call it with a list, the root context and a map. The own values of the user win, but for the labels
that the pods are selected by. One map, as a key that stands there twice is no valid YAML.
*/ -}}
{{- define "whatsapp-operator.labelsWith" -}}
{{- $root := index . 0 -}}
{{- $selector := include "whatsapp-operator.selectorLabels" $root | fromYaml -}}
{{- $common := default dict ($root.Values.global).commonLabels -}}
{{- $standard := dict
  "app.kubernetes.io/version" ($root.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/part-of" "whatsapp-operator"
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- merge $selector (default dict (index . 1)) $common $standard | toYaml -}}
{{- end -}}

{{- /* The tag is for people where there is a digest, which alone decides what is pulled. */ -}}
{{- define "whatsapp-operator.image" -}}
{{- with .Values.image -}}
{{- $registry := default .registry ($.Values.global).imageRegistry -}}
{{- $name := compact (list $registry .repository) | join "/" -}}
{{- printf "%s:%s" $name (default $.Chart.AppVersion .tag) -}}
{{- with .digest -}}
{{- printf "@%s" . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Exactly what the operator uses, in the namespaces that it watches. */ -}}
{{- define "whatsapp-operator.rules" -}}
- apiGroups: [whatsapp-operator.dev]
  resources: [whatsappphonenumbers]
  # patch: the finalizer of numbers that are deregistered when their resource is deleted. It also comes off where none is any more.
  verbs: [get, list, watch, patch]
- apiGroups: [whatsapp-operator.dev]
  resources: [whatsappphonenumbers/status]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  {{- if .Values.secretWatch }}
  # Only the metadata is watched, which RBAC cannot say.
  verbs: [get, list, watch]
  {{- else }}
  verbs: [get]
  {{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* Whether the operator may look at the CRD, which it does before it deregisters: "true", or nothing. */ -}}
{{- define "whatsapp-operator.readsCRD" -}}
{{- if and .Values.rbac.readCRD .Values.deregistration.enabled -}}
true
{{- end -}}
{{- end -}}

{{- /*
Whether the operator may remove its finalizers in all namespaces although it watches only some: "true", or nothing. Where a namespace is
deleted, so is the RoleBinding in it.
*/ -}}
{{- define "whatsapp-operator.removesFinalizers" -}}
{{- if and .Values.watchNamespaces .Values.rbac.removeFinalizers .Values.deregistration.enabled -}}
true
{{- end -}}
{{- end -}}

{{- /* Whether there is a ClusterRole: "true", or nothing. */ -}}
{{- define "whatsapp-operator.hasClusterRole" -}}
{{- if .Values.rbac.create -}}
{{- if or (not .Values.watchNamespaces) (include "whatsapp-operator.readsCRD" .) (include "whatsapp-operator.removesFinalizers" .) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "whatsapp-operator.removeFinalizersRules" -}}
- apiGroups: [whatsapp-operator.dev]
  resources: [whatsappphonenumbers]
  verbs: [get, patch]
{{- end -}}

{{- define "whatsapp-operator.crdRules" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [whatsappphonenumbers.whatsapp-operator.dev]
  verbs: [get]
{{- end -}}

{{- define "whatsapp-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "whatsapp-operator.serviceAccountName" . | quote }}
  namespace: {{ include "whatsapp-operator.namespace" . | quote }}
{{- end -}}

{{- /* The settings, as the operator's environment. */ -}}
{{- define "whatsapp-operator.ownEnv" -}}
- name: GRAPH_BASE_URL
  value: {{ .Values.graph.baseUrl | quote }}
- name: GRAPH_API_VERSION
  value: {{ .Values.graph.apiVersion | quote }}
- name: GRAPH_TIMEOUT
  value: {{ printf "%ds" (int .Values.graph.timeoutSeconds) | quote }}
- name: ALLOW_INSECURE_GRAPH
  value: {{ .Values.graph.allowInsecure | default false | quote }}
{{- with .Values.watchNamespaces }}
- name: WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.selector }}
- name: SELECTOR
  value: {{ . | quote }}
{{- end }}
- name: SECRET_WATCH
  value: {{ .Values.secretWatch | default false | quote }}
- name: CONCURRENCY
  value: {{ .Values.concurrency | int | quote }}
- name: ATTEMPT_LIMIT
  value: {{ .Values.attemptLimit | int | quote }}
- name: RETRY_BASE
  value: {{ .Values.retryBase | quote }}
- name: RETRY_CAP
  value: {{ .Values.retryCap | quote }}
- name: CONFIRM_WINDOW
  value: {{ .Values.confirmWindow | quote }}
- name: OBSERVE_INTERVAL
  value: {{ .Values.observeInterval | quote }}
- name: DEREGISTRATION
  value: {{ .Values.deregistration.enabled | default false | quote }}
- name: DEREGISTER_DEADLINE
  value: {{ .Values.deregistration.deadline | quote }}
- name: LEADER_ELECT
  value: {{ .Values.leaderElection.enabled | default false | quote }}
{{- if .Values.leaderElection.enabled }}
- name: LEASE_NAME
  value: {{ include "whatsapp-operator.fullname" . | quote }}
- name: LEASE_NAMESPACE
  value: {{ include "whatsapp-operator.namespace" . | quote }}
{{- end }}
- name: METRICS_PER_NUMBER
  value: {{ .Values.metrics.perNumber | quote }}
- name: LOG_FORMAT
  value: {{ .Values.logging.format | quote }}
- name: LOG_LEVEL
  value: {{ .Values.logging.level | quote }}
{{- with .Values.http_proxy }}
- name: HTTP_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.https_proxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.no_proxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
{{- if .Values.graph.caBundle }}
- name: SSL_CERT_FILE
  value: /etc/whatsapp-operator/ca/ca.crt
{{- end }}
{{- end -}}

{{- /* With extraEnv. A name may stand there once only: server-side apply refuses a second one. */ -}}
{{- define "whatsapp-operator.env" -}}
{{- $names := list -}}
{{- range .Values.extraEnv -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $env := list -}}
{{- range include "whatsapp-operator.ownEnv" . | fromYamlArray -}}
{{- if not (has .name $names) -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
{{- concat $env .Values.extraEnv | toYaml -}}
{{- end -}}
