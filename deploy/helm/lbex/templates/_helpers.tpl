{{- define "lbex.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "lbex.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lbex.labels" -}}
{{ include "lbex.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "lbex.account" -}}
{{ .Values.serviceAccount.name | default (include "lbex.name" .) }}
{{- end }}

{{- define "lbex.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What LBEX reads of what is in namespaces. */ -}}
{{- define "lbex.namespacedRules" -}}
- apiGroups: [""]
  resources: ["services", "endpoints"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["discovery.k8s.io"]
  resources: ["endpointslices"]
  verbs: ["get", "list", "watch"]
{{- end }}

{{- /* Values that contradict each other, which a schema cannot say well. */ -}}
{{- define "lbex.check" -}}
{{- if and .Values.networkPolicy.enabled .Values.hostNetwork }}
{{- fail "networkPolicy.enabled: NetworkPolicies do not apply to Pods on the host network; set hostNetwork to false, or filter on the nodes" }}
{{- end }}
{{- if and .Values.service.enabled .Values.hostNetwork }}
{{- fail "service.enabled: on the host network LBEX is reached at its nodes; set hostNetwork to false for a Service in front of it" }}
{{- end }}
{{- if and .Values.service.enabled (not .Values.service.ports) }}
{{- fail "service.enabled: service.ports has to name the ports at which clients come" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.enabled" }}
{{- end }}
{{- if eq (int .Values.healthPort) (int .Values.metrics.port) }}
{{- fail "healthPort and metrics.port have to differ" }}
{{- end }}
{{- end }}
