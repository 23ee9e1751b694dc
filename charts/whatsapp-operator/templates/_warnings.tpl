{{- /* What a person should know about the chosen values: a list. */ -}}
{{- define "whatsapp-operator.warnings" -}}
{{- $warnings := list -}}
{{- $grace := include "whatsapp-operator.terminationGracePeriodSeconds" . | int -}}
{{- $replicas := int .Values.replicaCount -}}
{{- if .Values.graph.allowInsecure -}}
{{- $warnings = append $warnings "graph.allowInsecure is true: tokens and PINs may travel unencrypted. Use it for tests only." -}}
{{- end -}}
{{- if lt $replicas 1 -}}
{{- $warnings = append $warnings "replicaCount is 0: nothing is registered until it is raised." -}}
{{- else if eq $replicas 1 -}}
{{- $warnings = append $warnings "There is one replica. While its node is drained or fails, no number is registered; registered numbers stay registered. For high availability: replicaCount=2 and podDisruptionBudget.enabled=true." -}}
{{- else -}}
{{- if not .Values.leaderElection.enabled -}}
{{- $warnings = append $warnings "leaderElection.enabled is false with several replicas: all of them reconcile every number. No number is registered twice, but each is read more often than needed." -}}
{{- end -}}
{{- if not .Values.podDisruptionBudget.enabled -}}
{{- $warnings = append $warnings "podDisruptionBudget.enabled is false: a drain may evict all replicas at once." -}}
{{- end -}}
{{- end -}}
{{- with include "whatsapp-operator.undrainable" . -}}
{{- $warnings = append $warnings (printf "%s with replicaCount=%d: no node with the operator can be drained, because no pod may be evicted." . $replicas) -}}
{{- end -}}
{{- if lt $grace (mul 2 (int .Values.graph.timeoutSeconds) | int) -}}
{{- $warnings = append $warnings (printf "terminationGracePeriodSeconds, %d, is shorter than twice graph.timeoutSeconds, %d: a stopped pod can lose the answer to a register call. The operator then finds the outcome by reading the number, after confirmWindow." $grace (int .Values.graph.timeoutSeconds)) -}}
{{- end -}}
{{- if .Values.deregistration.enabled -}}
{{- $warnings = append $warnings "deregistration.enabled is true: anyone who may delete a WhatsAppPhoneNumber with deletionPolicy: Deregister can take its number off the air." -}}
{{- if not .Values.rbac.readCRD -}}
{{- $warnings = append $warnings "rbac.readCRD is false: the operator cannot tell that the CRD is being deleted. Deleting the CRD takes every number with deletionPolicy: Deregister off the air." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.deregistration.enabled .Values.watchNamespaces (not .Values.rbac.removeFinalizers) -}}
{{- $warnings = append $warnings "rbac.removeFinalizers is false: if you delete a watched namespace, it can stay Terminating because of a number with deletionPolicy: Deregister. Delete its numbers first." -}}
{{- end -}}
{{- if or .Values.selector .Values.watchNamespaces -}}
{{- $warnings = append $warnings "This release reconciles only some of the resources. Make sure that no other release reconciles the same ones, and that no phone number ID is declared in two shards: releases do not see each other's resources." -}}
{{- end -}}
{{- if not .Values.crds.enabled -}}
{{- $warnings = append $warnings "crds.enabled is false: install the CRD separately, in this version or a newer one. To check: kubectl get crd whatsappphonenumbers.whatsapp-operator.dev" -}}
{{- else if not .Values.crds.keep -}}
{{- $warnings = append $warnings "crds.keep is false: helm uninstall deletes every WhatsAppPhoneNumber in the cluster. The numbers stay registered, but their ledgers are lost." -}}
{{- end -}}
{{- if not .Values.rbac.create -}}
{{- $warnings = append $warnings (printf "rbac.create is false: give the ServiceAccount %s the permissions at https://whatsapp-operator.github.io/whatsapp-operator/reference/permissions.html." (include "whatsapp-operator.serviceAccountName" .)) -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- $warnings = append $warnings "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true: Prometheus scrapes every pod twice, and totals are doubled. Keep only one of them." -}}
{{- end -}}
{{- if and .Values.metrics.prometheusRule.enabled (eq .Values.metrics.perNumber "none") -}}
{{- $warnings = append $warnings "metrics.perNumber is none: alerts about numbers never fire, only those about the operator. For alerts with few series: metrics.perNumber=unregistered." -}}
{{- end -}}
{{- range $kind, $key := dict "ServiceMonitor" "serviceMonitor" "PodMonitor" "podMonitor" "PrometheusRule" "prometheusRule" -}}
{{- $values := get $.Values.metrics $key -}}
{{- if and $values.enabled (not (include "whatsapp-operator.isRendered" (list $ $values $kind (printf "metrics.%s" $key)))) -}}
{{- $warnings = append $warnings (printf "metrics.%s is left out: the cluster does not know the kind %s. Install the Prometheus Operator, then run helm upgrade again." $key $kind) -}}
{{- end -}}
{{- end -}}
{{- with .Values.admissionPolicy.allowedPhoneNumberIDs -}}
{{- if .enabled -}}
{{- $warnings = append $warnings "admissionPolicy.allowedPhoneNumberIDs is on: a namespace may only hold the phone number IDs in its annotation. To allow one: kubectl annotate namespace NAMESPACE --overwrite whatsapp-operator.dev/allowed-phone-number-ids=ID,ID. Existing numbers are not checked." -}}
{{- end -}}
{{- end -}}
{{- toYaml $warnings -}}
{{- end -}}

{{- /*
The setting of the PodDisruptionBudget by which it lets no pod go; nothing if there is none. Kubernetes rounds shares of
both kinds up.
*/ -}}
{{- define "whatsapp-operator.undrainable" -}}
{{- $replicas := int .Values.replicaCount -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- if and $budget.enabled (gt $replicas 0) -}}
{{- if not (kindIs "invalid" $budget.minAvailable) -}}
{{- $asked := toString $budget.minAvailable -}}
{{- $share := mul (trimSuffix "%" $asked | atoi) (hasSuffix "%" $asked | ternary $replicas 100) -}}
{{- if gt $share (mul 100 (sub $replicas 1)) -}}
podDisruptionBudget.minAvailable={{ $asked }}
{{- end -}}
{{- else if not (kindIs "invalid" $budget.maxUnavailable) -}}
{{- $asked := toString $budget.maxUnavailable -}}
{{- if eq (trimSuffix "%" $asked | atoi) 0 -}}
podDisruptionBudget.maxUnavailable={{ $asked }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
