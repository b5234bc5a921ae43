{{- define "osprey.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "osprey.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "osprey.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name: which account, if none is to be created?" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "osprey.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "osprey.labels" -}}
{{ include "osprey.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "osprey.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The port of an address such as 0.0.0.0:6432 or [::]:6432. */}}
{{- define "osprey.port" -}}
{{- regexFind "[0-9]+$" . | required (printf "config: %q has no port" .) -}}
{{- end -}}

{{/* The port of the first address that clients connect to: that of [listen], or of the first [[listener]]. */}}
{{- define "osprey.clientPort" -}}
{{- $listen := .Values.config.listen | default dict -}}
{{- with .Values.config.listener -}}
{{- $listen = first . -}}
{{- end -}}
{{- include "osprey.port" (first ($listen.addresses | default (list "0.0.0.0:6432"))) -}}
{{- end -}}

{{- define "osprey.metricsPort" -}}
{{- include "osprey.port" (((.Values.config.observe | default dict).metrics) | default "0.0.0.0:9464") -}}
{{- end -}}

{{/* The port of HOST:PORT or of a URL, or another one where none is written: (list ADDRESS DEFAULT). */}}
{{- define "osprey.portOr" -}}
{{- $address := first . -}}
{{- $scheme := regexFind "^[a-z]+://" $address -}}
{{- $host := regexReplaceAll "/.*$" (trimPrefix $scheme $address) "" -}}
{{- $port := regexReplaceAll "^(\\[[^\\]]*\\]|[^:\\[]*):([0-9]+)$" $host "${2}" -}}
{{- if ne $port $host -}}{{ $port }}
{{- else if eq $scheme "https://" -}}443
{{- else -}}{{ last . }}
{{- end -}}
{{- end -}}

{{/* The ports that Osprey connects to, by config: those of Hologres, the Redis and the traces. A list in JSON, with
those that networkPolicy.upstreamPorts names besides. */}}
{{- define "osprey.egressPorts" -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.upstreamPorts -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
{{- $upstreams := .Values.config.upstream | default list -}}
{{- if kindIs "map" $upstreams -}}
{{- $upstreams = list $upstreams -}}
{{- end -}}
{{- range $upstreams -}}
{{- range concat (.addresses | default list) (ternary (list .address) list (not (empty .address))) -}}
{{- $ports = append $ports (include "osprey.portOr" (list . 80) | int) -}}
{{- end -}}
{{- end -}}
{{- range ((.Values.config.replicas | default dict).redis) | default list -}}
{{- $ports = append $ports (include "osprey.portOr" (list . 6379) | int) -}}
{{- end -}}
{{- with (.Values.config.observe | default dict).traces -}}
{{- $ports = append $ports (include "osprey.portOr" (list . 80) | int) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* A duration of osprey.toml in whole seconds, rounded up. */}}
{{- define "osprey.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" -}}
{{- div (add $number 999) 1000 -}}
{{- else -}}
{{- $seconds := get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit -}}
{{- mul $number (required (printf "config: %q is no duration" .) $seconds) -}}
{{- end -}}
{{- end -}}

{{/* What Osprey takes if config.limits does not say otherwise: 0 s and 30 s. */}}
{{- define "osprey.gracePeriod" -}}
{{- $limits := .Values.config.limits | default dict -}}
{{- $delay := include "osprey.seconds" ($limits.pre_drain_delay | default "0s") | int64 -}}
{{- $drain := include "osprey.seconds" ($limits.drain_timeout | default "30s") | int64 -}}
{{- add $delay $drain 10 -}}
{{- end -}}

{{/* config, with what other values say of it. */}}
{{- define "osprey.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $upstream := $config.upstream | default dict -}}
{{- if kindIs "map" $upstream -}}
{{- if not (or $upstream.address $upstream.addresses) -}}
{{- fail "config.upstream.address: where is Hologres? HOST:PORT of the instance's endpoint in your VPC" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.secret $config.listen -}}
{{- $files := dict "certificate" "/run/osprey/tls/tls.crt" "key" "/run/osprey/tls/tls.key" -}}
{{- $_ := set $config.listen "tls" (merge ($config.listen.tls | default dict) $files) -}}
{{- end -}}
{{- include "osprey.toml" (dict "prefix" "" "table" $config) | trim -}}
{{- end -}}

{{/* A table in TOML: its values first, then its tables, then its lists of tables. */}}
{{- define "osprey.toml" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "invalid" $value) (kindIs "map" $value) (include "osprey.areTables" $value)) }}
{{ $key }} = {{ include "osprey.value" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $name := printf "%s%s" $prefix $key -}}
{{- if kindIs "map" $value }}

[{{ $name }}]
{{- include "osprey.toml" (dict "prefix" (printf "%s." $name) "table" $value) -}}
{{- else if include "osprey.areTables" $value -}}
{{- range $value }}

[[{{ $name }}]]
{{- include "osprey.toml" (dict "prefix" (printf "%s." $name) "table" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty for a list of maps. */}}
{{- define "osprey.areTables" -}}
{{- if kindIs "slice" . -}}
{{- if . -}}
{{- if kindIs "map" (first .) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A value in TOML. Numbers of YAML are floating ones here, those of osprey.toml whole. */}}
{{- define "osprey.value" -}}
{{- if kindIs "string" . -}}
{{ toRawJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if kindIs "slice" . -}}
{{- $values := list -}}
{{- range . -}}
{{- $values = append $values (include "osprey.value" .) -}}
{{- end -}}
[{{ join ", " $values }}]
{{- else if eq (float64 .) (floor .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}
