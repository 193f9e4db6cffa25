{{/* Names of all objects begin with this. */}}
{{- define "pawl.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pawl.operator" -}}{{ include "pawl.fullname" . }}-operator{{- end -}}
{{- define "pawl.webhook" -}}{{ include "pawl.fullname" . }}-webhook{{- end -}}
{{- define "pawl.check" -}}{{ include "pawl.fullname" . }}-check{{- end -}}

{{- define "pawl.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pawl.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The user that the operator is for the API server. */}}
{{- define "pawl.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "pawl.serviceAccount" . }}
{{- end -}}

{{/* Labels of every object. Call with (dict "root" $ "component" "operator"). */}}
{{- define "pawl.labels" -}}
{{ include "pawl.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pawl
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pawl.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Call with (dict "root" $ "image" .Values.operator.image). */}}
{{- define "pawl.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* "true" or nothing. Call with (dict "root" $ "enabled" .Values.… "kind" "ServiceMonitor"). */}}
{{- define "pawl.monitoring" -}}
{{- if eq (toString .enabled) "true" -}}
true
{{- else if and (eq (toString .enabled) "auto") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind)) -}}
true
{{- end -}}
{{- end -}}

{{/* Where the startup check tries to make a pod: a namespace that the webhook serves. */}}
{{- define "pawl.checkNamespace" -}}
{{- if .Values.watchNamespaces -}}
{{- first .Values.watchNamespaces -}}
{{- else -}}
{{- .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* What cannot work is refused before anything is applied. */}}
{{- define "pawl.validate" -}}
{{- $certificates := .Values.webhook.certificates -}}
{{- if and (eq $certificates.mode "secret") (not $certificates.secret.name) -}}
{{- fail "webhook.certificates.secret.name: name the Secret with tls.crt and tls.key, or use the mode self" -}}
{{- end -}}
{{- if and (eq $certificates.mode "certManager") $certificates.certManager.issuerRef (not $certificates.certManager.issuerRef.name) -}}
{{- fail "webhook.certificates.certManager.issuerRef: name the issuer, or leave it empty for a self-signed one" -}}
{{- end -}}
{{- if eq (int .Values.webhook.port) (int .Values.admin.port) -}}
{{- fail "webhook.port and admin.port must differ" -}}
{{- end -}}
{{- end -}}
