#!/bin/sh
# Takes the databases to another major version: `dump` in the former image, then `load` in the new one. `back`, in the former
# image, puts the former databases in place again. Whatever interrupts them, all is as before until `load` has compared the
# databases, and any of them can be run again.
set -eu
umask 077
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
volume=/var/lib/postgresql/data
data="$volume/pgdata" before="$volume/pgdata.before" upgraded="$volume/pgdata.upgraded" dump="$volume/pgdata.dump"
# There while the databases in $before are the same as those in $data: until calls are served again, see hold.sh.
former="$volume/pgdata.former"

fail() {
  echo "$1" | tee /dev/termination-log >&2
  exit 1
}

exec 9>>"$volume/lock"
flock --timeout 60 9 || fail "A server of PostgreSQL still uses the volume"

own="$(postgres --version)"
own="${own#*PostgreSQL) }"
own="${own%%[!0-9]*}"
found="$(cat "$data/PG_VERSION" 2>/dev/null || true)"
jobs="$(nproc)"
if [ "$jobs" -gt 4 ]; then jobs=4; fi
if [ -n "$found" ] && [ -f "$former" ] && [ "$(cat "$before/PG_VERSION" 2>/dev/null)" = "$found" ]; then
  fail "pgdata was made again while an upgrade was interrupted, and the databases are in pgdata.before: move it back to pgdata"
fi

# Starts a server that nobody else reaches.
serve() {
  directory="$1"
  shift
  # Of a server that was killed, since the lock is held: pg_ctl takes it for that of the new one if its PID and time are alike.
  rm -f "$directory/postmaster.pid"
  pg_ctl start --pgdata="$directory" --silent --wait --timeout=86400 --log=/tmp/log --options="-c hba_file=/tmp/pg_hba.conf \
    -c listen_addresses= -c unix_socket_directories=/tmp -c ssl=off -c log_statement=none -c log_min_error_statement=panic \
    -c log_min_duration_statement=-1 $*" ||
    fail "PostgreSQL $own does not start: $(grep -E 'FATAL|PANIC' /tmp/log | tail -n 1)"
}

stop() {
  pg_ctl stop --pgdata="$1" --silent --wait --mode=fast --timeout=86400
}

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --set=VERBOSITY=terse "$@"
}

# Numbers of rows and the states of sequences, a line each. Tables of extensions are made by their new versions.
count() {
  for oid in $(ask --command="SELECT oid FROM pg_database WHERE datname <> 'template0'"); do
    PGDATABASE="$(ask --command="SELECT datname FROM pg_database WHERE oid = $oid")" ask <<'SQL'
SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', concat_ws('.', current_database(), nspname, relname), nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e') \gexec
SELECT concat_ws('.', current_database(), schemaname, sequencename), last_value FROM pg_sequences;
SELECT current_database(), count(*) FROM pg_largeobject_metadata;
SQL
  done | LC_ALL=C sort
}

export PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres
echo "local all postgres peer" >/tmp/pg_hba.conf
: >/tmp/postgresql.conf
: >/tmp/log
tail -f /tmp/log &
trap 'kill $!' EXIT

case "$1" in
  dump)
    # Loaded before, or in place already.
    if [ "$found" != "$own" ] && { [ -n "$found" ] || [ -f "$former" ]; }; then exit 0; fi
    [ -n "$found" ] || fail "$data holds no databases"
    rm -rf "$dump" "$upgraded" "$before" "$former"
    # What is not archived yet stays so, and is if this server is started again.
    serve "$data" "-c config_file=/tmp/postgresql.conf -c archive_mode=on -c archive_command="
    closed="$(ask --command="SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' LIMIT 1")"
    [ -z "$closed" ] || fail "The database $closed lets nobody in, so that it can't be dumped: ALTER DATABASE ... ALLOW_CONNECTIONS true"
    mkdir "$dump"
    pg_dumpall --globals-only >"$dump/globals.sql"
    for oid in $(ask --command="SELECT oid FROM pg_database WHERE datname <> 'template0'"); do
      name="$(ask --command="SELECT datname FROM pg_database WHERE oid = $oid")"
      case "$name" in postgres | template1) file="$name" ;; *) file="$oid.database" ;; esac
      PGDATABASE="$name" pg_dump --format=directory --jobs="$jobs" --compress=1 --file="$dump/$file" ||
        fail "The databases could not be dumped: see the log of this pod"
    done
    count >"$dump/rows"
    stop "$data"
    # Another one if a server has run since. Last, since without it the dump is not whole.
    cksum <"$data/global/pg_control" >"$dump/control"
    echo "The databases of PostgreSQL $own are dumped: $(du -sh "$dump" | cut -f 1)"
    ;;
  load)
    if [ "$found" = "$own" ]; then
      rm -rf "$dump"
      echo "The databases are those of PostgreSQL $own already"
      exit 0
    fi
    if [ -n "$found" ]; then
      [ "$(cksum <"$data/global/pg_control")" = "$(cat "$dump/control")" ] || fail "A server has used the databases since they were dumped"
      rm -rf "$upgraded" "$former"
      # As start.sh does.
      initdb --pgdata="$upgraded" --username=postgres --auth-local=peer --auth-host=scram-sha-256 \
        --data-checksums --encoding=UTF8 --locale=C.UTF-8 --no-sync ||
        fail "The new databases could not be made: see the log of this pod"
      cp "$data/postgresql.auto.conf" "$upgraded/"
      real="-c config_file=/etc/upgrade/postgresql.conf -c archive_command="
      serve "$upgraded" "$real -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c autovacuum=off -c max_wal_size=128MB \
        -c archive_mode=off -c wal_level=minimal -c max_wal_senders=0"
      # It is there, and what it may be is set all the same.
      sed '/^CREATE ROLE postgres;$/d' "$dump/globals.sql" | ask --output=/dev/null || fail "The roles could not be loaded: see the log of this pod"
      for directory in "$dump/postgres" "$dump/template1" "$dump"/*.database; do
        case "$directory" in
          */postgres) set -- --clean --if-exists --dbname=template1 ;;
          */template1) set -- --clean --if-exists --dbname=postgres ;;
          *) set -- --dbname=postgres ;;
        esac
        [ -d "$directory" ] || continue
        pg_restore --create --exit-on-error --jobs="$jobs" "$@" "$directory" || fail "The databases could not be loaded: see the log of this pod"
      done
      count >"$dump/rows.loaded"
      diff "$dump/rows" "$dump/rows.loaded" || fail "The databases that were loaded differ from those that were dumped: see the log of this pod"
      vacuumdb --all --analyze-only --quiet --jobs="$jobs"
      stop "$upgraded"
      initdb --sync-only --pgdata="$upgraded"
      serve "$upgraded" "$real"
      ask --command="SELECT 'PostgreSQL ' || current_setting('server_version') || ' starts with the configuration of the stack'"
      stop "$upgraded"
      printf '%s' "$found" >"$former"
      sync "$former" "$volume"
      mv "$data" "$before"
    fi
    [ -f "$former" ] && [ -d "$before" ] && [ -d "$upgraded" ] || fail "$data holds no databases"
    mv "$upgraded" "$data"
    sync "$volume"
    rm -rf "$dump"
    echo "The databases are those of PostgreSQL $own"
    ;;
  back)
    if [ "$found" != "$own" ]; then
      { [ -f "$former" ] && [ "$(cat "$before/PG_VERSION")" = "$own" ]; } ||
        fail "pgdata.before does not hold the same databases of PostgreSQL $own: calls were served since, or it was removed"
      if [ -n "$found" ]; then
        rm -rf "$upgraded"
        mv "$data" "$upgraded"
      fi
      mv "$before" "$data"
    fi
    rm -rf "$former" "$upgraded" "$dump"
    echo "The databases are those of PostgreSQL $own again"
    ;;
esac
