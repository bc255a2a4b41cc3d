#!/bin/sh
# Backs the databases up, and removes what is no longer to be kept. PGBACKREST_... say of what and to where.
set -eu

date -u +%Y%m%dT%H%M%SZ >/work/id
pgbackrest stanza-create

# Labels of full backups are their times: 20261130-020000F.
type=incr
last="$(pgbackrest info --output=json --log-level-console=warn | grep -o '"label":"[0-9]\{8\}-[0-9]\{6\}F"' | tail -n 1 | tr -cd '0-9' || true)"
if [ -z "$last" ] || [ "$last" -lt "$(date -u -d "$FULL_DAYS days ago" +%Y%m%d%H%M%S)" ]; then
  type=full
fi
exec pgbackrest --type="$type" backup
