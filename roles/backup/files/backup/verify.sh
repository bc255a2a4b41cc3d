#!/bin/sh
# Reads the databases of the backup that was looked at, by their checksums, and prints its manifest for the playbook.
set -eu

# An upgrade that goes back has just made it, and clients wait. Dumps were verified by the look.
if [ "$VERIFY" = no ] || [ -z "${PGBACKREST_CONFIG:-}" ]; then
  exec cat /work/manifest.json
fi
# It says what is wrong on its standard output, and its exit code does not always tell. It would try each broken file
# again after 15 seconds.
pgbackrest verify --job-retry=0 --set="$(cat /work/label)" --output=text --log-level-console=warn >/work/verified 2>&1 || echo "error: $?" >>/work/verified
newest="$(grep -o '"version":"[0-9]*"' /work/info.json | tr -cd '0-9\n' | sort -n | tail -n 1)"
if grep -q "unexpected WAL magic" /work/verified && [ "${newest:-0}" -gt "$(cat /work/version)" ]; then
  # It reads the archives of all versions. A restore compares checksums too, beside the databases that are there.
  echo "pgBackRest of this image does not know a newer PostgreSQL, whose write-ahead log is at the destination too: databases are verified while they are restored" >&2
elif grep -qi error /work/verified; then
  cat /work/verified >&2
  echo "The databases of the backup are not whole at the destination: $(tail -n 1 /work/verified | tr -s ' ')" | tee /dev/termination-log >&2
  exit 1
fi
cat /work/manifest.json
