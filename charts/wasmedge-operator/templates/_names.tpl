{{/* Names, labels and image references that several templates use. */}}

{{/* Name of all objects. */}}
{{- define "wasmedge-operator.name" -}}
{{ .Values.fullnameOverride | default "wasmedge-operator" }}
{{- end }}

{{/* Selector of the operator's pods. It must not change: the selector of a Deployment is immutable. */}}
{{- define "wasmedge-operator.selector" -}}
app.kubernetes.io/name: wasmedge-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of an object. Parameters: root, component. */}}
{{- define "wasmedge-operator.labels" -}}
app.kubernetes.io/name: wasmedge-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Reference of an image. Parameters: root, image (its values). */}}
{{- define "wasmedge-operator.image" -}}
{{- $name := printf "%s/%s" (.root.Values.global.registry | default .image.registry) .image.repository -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "wasmedge-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "wasmedge-operator.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{/* Service account of installers. It has no rights, and installers get no token. */}}
{{- define "wasmedge-operator.installerAccount" -}}
{{ include "wasmedge-operator.name" . }}-installer
{{- end }}

{{/* Security context of a pod, allowed in namespaces of level `restricted`. */}}
{{- define "wasmedge-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "wasmedge-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/*
Returns "true" if a runtime of that name is being deleted: the operator completes the removal first. Parameters: root, name.
*/}}
{{- define "wasmedge-operator.isLeaving" -}}
{{- if .root.Capabilities.APIVersions.Has "runtime.wasmedge.dev/v1alpha1/WasmRuntime" -}}
{{- $found := lookup "runtime.wasmedge.dev/v1alpha1" "WasmRuntime" "" .name -}}
{{- if dig "metadata" "deletionTimestamp" "" $found -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Rules of a role, from a generated file. Parameters: root, file. */}}
{{- define "wasmedge-operator.rules" -}}
{{- $text := .root.Files.Get (printf "files/%s" .file) | required (printf "the chart lacks files/%s" .file) -}}
{{- regexReplaceAll "^# Generated[^\n]*\n" $text "" | trim -}}
{{- end }}
