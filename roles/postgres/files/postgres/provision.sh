#!/bin/sh
# Makes the roles and databases, as soon as the server lets the superuser in.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

waited=0
until reason="$(psql --no-psqlrc --no-password --quiet --output=/dev/null --command='SELECT 1' 2>&1)"; do
  if [ "$waited" -ge "$WAIT_SECONDS" ]; then
    echo "PostgreSQL did not let its superuser in within $WAIT_SECONDS s: $reason" >&2
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done

exec psql --no-psqlrc --no-password --quiet --file=/etc/provision/provision.sql
