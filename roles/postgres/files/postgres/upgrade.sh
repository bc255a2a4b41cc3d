#!/bin/sh
# Prints what an upgrade has to know of the databases, as a line of JSON: sizes in bytes, until when a migration of MLflow
# that may have changed a schema left all as it was, whether MLflow has served since, how many changes Keycloak's schema has,
# null for one of another server, the major version, and that of the same databases in pgdata.before, 0 without them or if
# MLflow has served since they were. Fails if any of them can't be told.
set -eu
mlflow="$1" keycloak="$2"

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --dbname="$1" --command="$2"
}

settled='' served=false changes=null table='' former=0
if [ -f "$PGDATA.former" ] && [ -d "$PGDATA.before" ]; then former="$(cat "$PGDATA.former")"; fi
if [ -n "$mlflow" ]; then table="$(ask "$mlflow" "SELECT to_regclass('mlops_windows')")"; fi
if [ -n "$table" ]; then
  # That of hold.sh is no migration's.
  if [ -n "$(ask "$mlflow" "SELECT served FROM mlops_windows WHERE versions = 'postgres'")" ]; then former=0; fi
  newest="FROM mlops_windows WHERE until = 'infinity' AND settled IS NOT NULL AND versions <> 'postgres' ORDER BY settled DESC LIMIT 1"
  settled="$(ask "$mlflow" "SELECT settled $newest")"
  if [ -n "$settled" ]; then served="$(ask "$mlflow" "SELECT to_json(served IS NOT NULL) $newest")"; fi
fi
if [ -n "$keycloak" ]; then
  table="$(ask "$keycloak" "SELECT to_regclass('databasechangelog')")"
  changes=0
  if [ -n "$table" ]; then changes="$(ask "$keycloak" "SELECT count(*) FROM databasechangelog")"; fi
fi
version="$(ask postgres "SHOW server_version_num")"
size="$(ask postgres "SELECT sum(pg_database_size(oid)) FROM pg_database")"
free="$(df --output=avail --block-size=1 "$PGDATA" | tail -n 1 | tr -d ' ')"
printf '{"settled": "%s", "served": %s, "changes": %s, "major": %s, "former": %s, "size": %s, "free": %s}\n' \
  "$settled" "$served" "$changes" "$((version / 10000))" "$former" "$size" "$free"
