#!/bin/sh
# Serves the restored databases to this pod alone, by their passwords.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

echo "host all all 127.0.0.1/32 scram-sha-256" >/tmp/pg_hba.conf
exec postgres -D /var/lib/postgresql/data/pgdata -c config_file=/tmp/postgresql.conf -c hba_file=/tmp/pg_hba.conf \
  -c listen_addresses=127.0.0.1
