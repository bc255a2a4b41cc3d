#!/bin/sh
# Serves the restored databases to this pod alone.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
data=/var/lib/postgresql/data/pgdata

cat >/tmp/postgresql.conf <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '/tmp'
archive_mode = off
CONF
echo "host all all 127.0.0.1/32 scram-sha-256" >/tmp/pg_hba.conf
exec postgres -D "$data" -c config_file=/tmp/postgresql.conf -c hba_file=/tmp/pg_hba.conf
