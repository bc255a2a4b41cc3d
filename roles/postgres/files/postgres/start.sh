#!/bin/sh
# Starts PostgreSQL on the volume; on an empty one, makes the cluster of databases first.
set -eu
umask 077
trap 'exit 143' TERM

config=/etc/postgresql
volume="${PGDATA%/*}"
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

# The server and all its children keep this file open, and with it the lock: two servers on one volume would ruin the data.
exec 9>>"$volume/lock"
if ! flock --nonblock 9; then
  echo "Another server still uses the volume: waiting for it to end"
  until flock --timeout 1 9; do :; done
fi

version="$(postgres --version)"
version="${version#*PostgreSQL) }"
version="${version%%[!0-9]*}"

# Made beside its place and moved there when it is whole, so that an interruption leaves nothing that looks like data.
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -e "$PGDATA" ]; then
    echo "$PGDATA is there but holds no PG_VERSION: this is not a whole cluster of databases, and is left alone" >&2
    exit 1
  fi
  rm -rf "$PGDATA.tmp" "$PGDATA.superuser"
  initdb --pgdata="$PGDATA.tmp" --username=postgres --auth-local=peer --auth-host=scram-sha-256 \
    --data-checksums --encoding=UTF8 --locale=C.UTF-8
  mv "$PGDATA.tmp" "$PGDATA"
fi

found="$(cat "$PGDATA/PG_VERSION")"
if [ "$found" != "$version" ]; then
  echo "The volume holds data of PostgreSQL $found, and the image is PostgreSQL $version: use an image of $found, or dump and restore" >&2
  exit 1
fi
# A volume's group may have been set on all its files; the server wants its directory for itself.
chmod 0700 "$PGDATA"

# The superuser's password is set before anybody can connect, and again when the Secret has changed.
if [ ! -f "$PGDATA.superuser" ] || [ "$(cat "$PGDATA.superuser")" != "$SUPERUSER_FINGERPRINT" ]; then
  pg_ctl start --silent --wait --timeout=86400 --options="-c config_file=$config/postgresql.conf \
    -c hba_file=$config/pg_hba.conf -c listen_addresses= -c unix_socket_directories=/tmp"
  psql --no-psqlrc --quiet --host=/tmp --username=postgres --dbname=postgres <<'SQL'
\set ON_ERROR_STOP on
\set VERBOSITY terse
SET log_statement = none;
SET log_min_error_statement = panic;
SET log_min_duration_statement = -1;
SET pg_stat_statements.track_utility = off;
\getenv password SUPERUSER_PASSWORD
ALTER ROLE postgres PASSWORD :'password';
SQL
  pg_ctl stop --silent --wait --mode=fast --timeout=86400
  printf '%s' "$SUPERUSER_FINGERPRINT" >"$PGDATA.superuser"
fi
unset SUPERUSER_PASSWORD

exec postgres -c "config_file=$config/postgresql.conf" -c "hba_file=$config/pg_hba.conf"
