#!/bin/sh
# Prints what an upgrade has to know of the databases, as a line of JSON: sizes in bytes, until when a migration of MLflow
# that may have changed a schema left all as it was, whether MLflow has served since, and how many changes Keycloak's schema
# has, null for one of another server. Fails if any of them can't be told.
set -eu
mlflow="$1" keycloak="$2"

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --dbname="$1" --command="$2"
}

settled='' served=false changes=null
table="$(ask "$mlflow" "SELECT to_regclass('mlops_windows')")"
if [ -n "$table" ]; then
  newest="FROM mlops_windows WHERE until = 'infinity' AND settled IS NOT NULL ORDER BY settled DESC LIMIT 1"
  settled="$(ask "$mlflow" "SELECT settled $newest")"
  if [ -n "$settled" ]; then served="$(ask "$mlflow" "SELECT to_json(served IS NOT NULL) $newest")"; fi
fi
if [ -n "$keycloak" ]; then
  table="$(ask "$keycloak" "SELECT to_regclass('databasechangelog')")"
  changes=0
  if [ -n "$table" ]; then changes="$(ask "$keycloak" "SELECT count(*) FROM databasechangelog")"; fi
fi
size="$(ask postgres "SELECT sum(pg_database_size(oid)) FROM pg_database")"
free="$(df --output=avail --block-size=1 "$PGDATA" | tail -n 1 | tr -d ' ')"
printf '{"settled": "%s", "served": %s, "changes": %s, "size": %s, "free": %s}\n' "$settled" "$served" "$changes" "$size" "$free"
