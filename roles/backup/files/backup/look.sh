#!/bin/sh
# Asks pgBackRest, where it is used, what there is to restore, and the image for the version of its PostgreSQL.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

# pgBackRest would try for some minutes.
code=0
if [ -n "${PGBACKREST_CONFIG:-}" ]; then
  timeout 60 pgbackrest info --output=json --log-level-console=warn >/work/info.json || code=$?
fi
if [ "$code" -eq 124 ]; then
  echo "The destination has not answered within a minute: $(grep -E '^repo1-(s3-endpoint|storage-port)=' "$PGBACKREST_CONFIG" | tr '\n' ' ')" |
    tee /dev/termination-log >&2
fi
[ "$code" -eq 0 ] || exit "$code"
version="$(postgres --version)"
version="${version#*PostgreSQL) }"
printf '%s' "${version%%[!0-9]*}" >/work/version
