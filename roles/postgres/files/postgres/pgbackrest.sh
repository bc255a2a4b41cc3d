#!/bin/sh
# Serves pgBackRest's protocol; with "probe", has the server read a renewed certificate, as the readiness probe runs it.
set -eu

if [ "${1:-}" = probe ]; then
  # The kubelet gives each content of the Secret a folder of its own.
  current="$(readlink /etc/postgresql-tls/..data)"
  if [ "$current" != "$(cat /tmp/certificate)" ]; then
    kill -HUP 1
    printf '%s' "$current" >/tmp/certificate
  fi
  exec pgbackrest --config=/etc/postgresql/pgbackrest.conf server-ping
fi
if ! command -v pgbackrest >/dev/null; then
  echo "The image of PostgreSQL has no pgbackrest, which backups need: playbooks/images.yml builds one that has" | tee /dev/termination-log >&2
  exit 1
fi
readlink /etc/postgresql-tls/..data | tr -d '\n' >/tmp/certificate
# Without it nothing is archived. It does nothing where it is done.
until pgbackrest --config=/etc/postgresql/pgbackrest.conf --stanza=mlflow stanza-create; do sleep 30; done &
exec pgbackrest --config=/etc/postgresql/pgbackrest.conf server
