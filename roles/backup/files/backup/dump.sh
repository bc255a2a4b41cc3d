#!/bin/sh
# Dumps the databases that the arguments name, all at once, so that they are of nearly the same moment. PG... say where.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

fail() {
  echo "$1" | tee /dev/termination-log >&2
  exit 1
}

[ -s /work/id ] || date -u +%Y%m%dT%H%M%SZ >/work/id
server="$(psql --no-psqlrc --no-password --tuples-only --no-align --dbname="$1" --command='SHOW server_version' 2>/tmp/error)" ||
  fail "PostgreSQL at $PGHOST cannot be asked: $(head -n 1 /tmp/error)"
image="$(pg_dump --version)"
image="${image#*PostgreSQL) }"
[ "${image%%[!0-9]*}" -ge "${server%%[!0-9]*}" ] ||
  fail "postgres_image is PostgreSQL ${image%%[!0-9]*}, and the server at $PGHOST is ${server%%[!0-9]*}: an image of that version or a newer one"

# It looks whether it can compress so before it connects.
compress=zstd
case "$(pg_dump --format=custom --compress=zstd --host=/nowhere --no-password 2>&1)" in *ompress*) compress=6 ;; esac
running=''
for database in "$@"; do
  pg_dump --no-password --lock-wait-timeout=300s --format=custom --compress="$compress" --dbname="$database" \
    --file="/dumps/$database.dump" 2>"/tmp/$database.error" &
  running="$running $!:$database"
done
for each in $running; do
  wait "${each%%:*}" || fail "The database ${each#*:} could not be dumped: $(head -n 1 "/tmp/${each#*:}.error")"
done
ls -l /dumps/
