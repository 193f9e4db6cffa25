{{/* The pod of the startup check and of `helm test`. */}}
{{- define "pawl.checkPod" -}}
serviceAccountName: {{ include "pawl.check" . }}
automountServiceAccountToken: true
enableServiceLinks: false
restartPolicy: Never
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: check
    image: {{ include "pawl.image" (dict "root" $ "image" .Values.operator.image) }}
    imagePullPolicy: {{ .Values.operator.image.pullPolicy }}
    args:
      - check-webhook
      - --namespace={{ include "pawl.checkNamespace" . }}
      - --timeout={{ .Values.startupCheck.timeout }}
    resources:
      requests:
        cpu: 10m
        memory: 16Mi
      limits:
        memory: 64Mi
    {{- with .Values.operator.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- with .Values.operator.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
