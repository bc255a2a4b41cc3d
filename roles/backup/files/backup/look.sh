#!/bin/sh
# Asks pgBackRest what there is to restore, and the image for the version of its PostgreSQL.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

# A destination that does not answer is said soon.
pgbackrest --io-timeout=15 info --output=json --log-level-console=warn >/work/info.json
version="$(postgres --version)"
version="${version#*PostgreSQL) }"
printf '%s' "${version%%[!0-9]*}" >/work/version
