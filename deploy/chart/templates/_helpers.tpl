{{- define "midwatch.name" -}}
{{- if eq .Release.Name "midwatch" }}midwatch{{ else }}{{ printf "%s-midwatch" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "midwatch.selector" -}}
app.kubernetes.io/name: midwatch
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "midwatch.config" -}}
{{- .Values.config | default (.Files.Get "files/midwatch.toml") }}
{{- end }}
