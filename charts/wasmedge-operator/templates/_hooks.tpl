{{/* Jobs that Helm runs as hooks. */}}

{{/*
A Job that runs the operator's program, with a service account and rights that exist only while it runs.
Parameters: root, name (suffix), events (of Helm), args, retries, rules (file with the rules of a ClusterRole),
deadline (optional, in seconds).
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
    # Helm prints the log of a failed hook.
    helm.sh/hook-output-log-policy: hook-failed
spec:
  # Each attempt is a separate pod, so that the log of a failed one is kept.
  backoffLimit: {{ .retries }}
  {{- with .deadline }}
  # Without a deadline, a pod whose image cannot be pulled would never end.
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

{{/* Events at which the CRDs are applied. If the cluster has CRDs of another version, installation is one of them. */}}
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
