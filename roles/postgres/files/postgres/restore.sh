#!/bin/sh
# Restores the databases beside those that are there, has PostgreSQL recover them to the target, and then puts them in place.
# Whatever interrupts it, the former ones stay until the others are whole.
set -eu
umask 077
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
volume=/var/lib/postgresql/data
restored="$volume/pgdata.restored"

fail() {
  echo "$1" | tee /dev/termination-log >&2
  exit 1
}

exec 9>>"$volume/lock"
flock --nonblock 9 || fail "A server of PostgreSQL still uses the volume"

# Of a restore that was interrupted, and of the one before it.
rm -rf "$restored"
if [ -d "$volume/pgdata" ]; then rm -rf "$volume/pgdata.before"; fi
free="$(df --output=avail --block-size=1 "$volume" | tail -n 1 | tr -d ' ')"
[ "$free" -ge "$NEEDED" ] || fail "The volume has $free bytes left, and the databases need $NEEDED beside those that are there: a larger postgres_storage_size"

mkdir -m 0700 "$restored"
set -- --type="$TARGET_TYPE" --target="$TARGET" --target-timeline="$TARGET_TIMELINE" --target-action=promote
if [ -n "$BACKUP_SET" ]; then set -- "$@" --set="$BACKUP_SET"; fi
if [ "$TARGET_TYPE" = lsn ]; then set -- "$@" --target-exclusive; fi
pgbackrest --log-level-console=info "$@" restore || fail "pgBackRest could not restore the databases: see the log of this pod"

# The new timeline is archived, so that later backups can be restored along it. That of a drill must not be.
cat >/tmp/postgresql.conf <<CONF
listen_addresses = ''
unix_socket_directories = '/tmp'
hot_standby = off
archive_mode = ${ARCHIVE:-on}
archive_command = 'timeout 120 pgbackrest archive-push "%p"'
CONF
echo "local all postgres peer" >/tmp/pg_hba.conf
touch /tmp/log
tail -f /tmp/log &
trap 'kill $!' EXIT
pg_ctl start --pgdata="$restored" --silent --no-wait --log=/tmp/log \
  --options="-c config_file=/tmp/postgresql.conf -c hba_file=/tmp/pg_hba.conf"
# pg_ctl would not wait for the end of the recovery. The server ends where it can't reach the target.
until psql --no-psqlrc --quiet --host=/tmp --username=postgres --dbname=postgres --command=CHECKPOINT 2>/dev/null; do
  sleep 1
  if ! pg_ctl status --pgdata="$restored" >/dev/null; then
    if grep -q "recovery ended before configured recovery target" /tmp/log; then
      fail "The write-ahead log at the destination ends before $TARGET: $(grep -o 'last completed transaction.*' /tmp/log | tail -n 1)"
    fi
    fail "PostgreSQL could not recover to $TARGET: $(grep -E 'FATAL|PANIC' /tmp/log | grep -v 'the database system is' | tail -n 1)"
  fi
done
pg_ctl stop --pgdata="$restored" --silent --wait --mode=fast --timeout=86400

if [ -d "$volume/pgdata" ]; then mv "$volume/pgdata" "$volume/pgdata.before"; fi
mv "$restored" "$volume/pgdata"
# The superuser's password is of the backup's time: the next start sets it again.
rm -f "$volume/pgdata.superuser"
echo "The databases are restored to $TARGET"
