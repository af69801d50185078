{{/* Jobs that Helm runs before it does something itself. */}}

{{/*
A Job of the operator's own program, and the account and rights that exist only while it runs. Takes:
root, name (suffix), events (of Helm), args, retries, rules (the file of a ClusterRole's), deadline (seconds, if it has one).
*/}}
{{- define "wasmedge-operator.hook" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "wasmedge-operator.name" $root) .name -}}
{{- $labels := include "wasmedge-operator.labels" (dict "root" $root "component" "hook") -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- include "wasmedge-operator.hookAnnotations" (dict "events" .events "weight" "-10") | nindent 4 }}
{{- if $root.Values.rbac.create }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- include "wasmedge-operator.hookAnnotations" (dict "events" .events "weight" "-10") | nindent 4 }}
rules:
  {{- include "wasmedge-operator.rules" (dict "root" $root "file" .rules) | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- include "wasmedge-operator.hookAnnotations" (dict "events" .events "weight" "-5") | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations:
    {{- include "wasmedge-operator.hookAnnotations" (dict "events" .events "weight" "0") | nindent 4 }}
    # Why it failed is then said by Helm, too.
    helm.sh/hook-output-log-policy: hook-failed
spec:
  # Each try is a pod of its own: the log of the one before stays.
  backoffLimit: {{ .retries }}
  {{- with .deadline }}
  # A pod whose image cannot be pulled never ends by itself.
  activeDeadlineSeconds: {{ . }}
  {{- end }}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: wasmedge-operator
        app.kubernetes.io/instance: {{ $root.Release.Name }}
        app.kubernetes.io/component: hook
    spec:
      restartPolicy: Never
      serviceAccountName: {{ $name }}
      enableServiceLinks: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{- include "wasmedge-operator.podSecurity" $root | nindent 8 }}
      containers:
        - name: {{ .name }}
          image: {{ include "wasmedge-operator.image" (dict "root" $root "image" $root.Values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            {{- toYaml .args | nindent 12 }}
            - --log-format={{ $root.Values.log.format }}
            - --log-level={{ $root.Values.log.level }}
          securityContext: {{- include "wasmedge-operator.containerSecurity" $root | nindent 12 }}
          {{- with $root.Values.resources }}
          resources: {{- toYaml . | nindent 12 }}
          {{- end }}
{{- end }}

{{/* When the CRDs are applied: also before an installation, where an earlier one left others than the chart has. */}}
{{- define "wasmedge-operator.crdsEvents" -}}
{{- $events := list "pre-upgrade" -}}
{{- range $file := list "crds/wasmruntimes.yaml" "crds/wasmruntimenodes.yaml" -}}
{{- $ours := $.Files.Get $file | required (printf "the chart lacks %s" $file) | fromYaml -}}
{{- $theirs := lookup $ours.apiVersion $ours.kind "" $ours.metadata.name -}}
{{- $mark := "runtime.wasmedge.dev/definition" -}}
{{- if and $theirs (ne (dig "metadata" "annotations" $mark "" $theirs) (get $ours.metadata.annotations $mark)) -}}
{{- $events = list "pre-install" "pre-upgrade" -}}
{{- end -}}
{{- end -}}
{{- join "," $events -}}
{{- end }}

{{- define "wasmedge-operator.hookAnnotations" -}}
helm.sh/hook: {{ .events }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
