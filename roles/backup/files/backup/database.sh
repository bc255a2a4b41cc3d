#!/bin/sh
# Backs the databases up, and removes what is no longer to be kept. PGBACKREST_... say of what and to where.
set -eu

date -u +%Y%m%dT%H%M%SZ >/work/id
code=0
pgbackrest stanza-create || code=$?
# https://github.com/pgbackrest/pgbackrest/blob/main/src/build/error/error.yaml
if [ "$code" -eq 28 ]; then
  echo "The destination has backups of other databases: another backup_s3_prefix, or restore these" | tee /dev/termination-log >&2
fi
[ "$code" -eq 0 ] || exit "$code"

# Labels of full backups are their times: 20261130-020000F.
type=incr
last="$(pgbackrest info --output=json --log-level-console=warn | grep -o '"label":"[0-9]\{8\}-[0-9]\{6\}F"' | tail -n 1 | tr -cd '0-9' || true)"
if [ -z "$last" ] || [ "$last" -lt "$(date -u -d "$FULL_DAYS days ago" +%Y%m%d%H%M%S)" ]; then
  type=full
fi
exec pgbackrest --type="$type" backup
