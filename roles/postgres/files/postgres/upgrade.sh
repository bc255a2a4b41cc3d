#!/bin/sh
# Prints what an upgrade has to know of the databases, as a line of JSON: sizes in bytes, until when a migration of MLflow
# that changed a schema left all as it was, and how many changes Keycloak's schema has.
set -eu
mlflow="$1" keycloak="$2"

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --dbname="$1" --command="$2"
}

settled=
if [ -n "$(ask "$mlflow" "SELECT to_regclass('mlops_windows')")" ]; then
  settled="$(ask "$mlflow" "SELECT max(settled) FROM mlops_windows WHERE until = 'infinity'")"
fi
changes=0
if [ -n "$keycloak" ] && [ -n "$(ask "$keycloak" "SELECT to_regclass('databasechangelog')")" ]; then
  changes="$(ask "$keycloak" "SELECT count(*) FROM databasechangelog")"
fi
size="$(ask postgres "SELECT sum(pg_database_size(oid)) FROM pg_database")"
free="$(df --output=avail --block-size=1 "$PGDATA" | tail -n 1 | tr -d ' ')"
printf '{"settled": "%s", "changes": %s, "size": %s, "free": %s}\n' "$settled" "$changes" "$size" "$free"
