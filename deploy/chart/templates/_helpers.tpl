{{/* The name of everything. A StatefulSet's may have no more than 52 bytes: its Pods carry it in a label, with a hash. */}}
{{- define "midwatch.name" -}}
{{- $name := ternary .Release.Name (printf "%s-midwatch" .Release.Name) (contains "midwatch" .Release.Name) }}
{{- $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* What tells the objects of this release from others, and its Pods from others. */}}
{{- define "midwatch.labels" -}}
app.kubernetes.io/name: midwatch
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The Secret with the files that the configuration names. */}}
{{- define "midwatch.secret" -}}
{{- .Values.secret.name | default (include "midwatch.name" .) }}
{{- end }}

{{/* A request to the endpoint, for the kubelet, who has neither password nor certificate. */}}
{{- define "midwatch.probe" -}}
{{- if .root.Values.web.login -}}
tcpSocket:
  port: http
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
  {{- if .root.Values.web.tls }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{- end }}
