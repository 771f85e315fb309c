{{/* What the selector matches: it cannot be changed later, and there is one agent a cluster. */}}
{{- define "cpuset-reconciler.selector" -}}
app.kubernetes.io/name: cpuset-reconciler
{{- end }}

{{- define "cpuset-reconciler.labels" -}}
{{ include "cpuset-reconciler.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "cpuset-reconciler.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end -}}
{{- end }}
