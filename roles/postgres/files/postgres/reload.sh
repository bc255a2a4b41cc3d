#!/bin/sh
# Has the server read its certificate again where the Secret has another one, and probes it: the readiness probe runs this.
# Connections stay, and with a certificate that is none, the server keeps the former one.
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
# The kubelet gives each content of the Secret a folder of its own.
current="$(readlink /etc/postgresql-tls/..data)"
if [ "$current" != "$(cat /tmp/certificate 2>/dev/null)" ] && pg_ctl reload --silent; then
  printf '%s' "$current" >/tmp/certificate
fi
exec sh /etc/postgresql/probe.sh
