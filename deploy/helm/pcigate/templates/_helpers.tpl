{{- define "pcigate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pcigate.labels" -}}
{{ include "pcigate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "pcigate.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pcigate.image" -}}
{{- $image := .root.Values.image -}}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
{{ printf "%s/%s:%s" $image.registry .name $tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "pcigate.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "pcigate.caSecret" -}}
{{- default (printf "%s-ca" (include "pcigate.fullname" .)) .Values.ca.secretName -}}
{{- end -}}

{{- define "pcigate.collectorHost" -}}
{{ include "pcigate.fullname" . }}-collector.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "pcigate.collectorUrl" -}}
{{- if .Values.collector.url -}}
{{ .Values.collector.url }}
{{- else if .Values.collector.enabled -}}
https://{{ include "pcigate.collectorHost" . }}:7443
{{- else -}}
{{ fail "collector.url is required with collector.enabled false: name the collector the agents send to, such as https://collector.example.com:7443" }}
{{- end -}}
{{- end -}}

{{- define "pcigate.enrolls" -}}
{{- if eq .Values.agent.certificates.source "enroll" }}true{{ end -}}
{{- end -}}
