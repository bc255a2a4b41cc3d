#!/bin/sh
# Has MLflow's servers hold calls while PostgreSQL is away, by a row that they look for, and waits until none is served:
#   hold.sh hold DATABASE; hold.sh release DATABASE
# The row and its times are those of server/src/mlops_mlflow_server/window.py.
set -eu
act="$1" database="$2"

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --username=postgres --dbname="$database" --command="$1"
}

release() {
  ask "DELETE FROM mlops_windows WHERE versions = 'postgres' RETURNING 'released'"
}

# From now on, whoever goes back to the former databases would lose what is written.
if [ "$act" = release ]; then rm -f "$PGDATA.former"; fi
if [ -z "$database" ] || [ -z "$(ask "SELECT to_regclass('mlops_windows')")" ]; then
  echo "MLflow has no database here whose calls could be held"
  exit 0
fi
if [ "$act" = release ]; then
  release
  exit 0
fi

# Counts only while it is renewed, until all has ended.
ask "INSERT INTO mlops_windows VALUES ('postgres', '', clock_timestamp(), clock_timestamp() + interval '60 s')
  ON CONFLICT (versions) DO UPDATE SET begun = excluded.begun, until = excluded.until, settled = NULL, served = NULL"
trap release EXIT
# By then a server has seen it, or takes no calls since it could not look.
sleep 6
since="$(ask "SELECT clock_timestamp()")"
end=$(($(date +%s) + 120))
until running="$(ask "
    SELECT 'calls of ' || server FROM mlops_busy_servers WHERE until > clock_timestamp()
    UNION ALL SELECT 'a transaction of ' || coalesce(nullif(application_name, ''), 'no name') FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start < '$since'
    LIMIT 1")" && [ -z "$running" ]; do
  if [ "$(date +%s)" -ge "$end" ]; then
    echo "$running did not end for 120 s" >&2
    exit 1
  fi
  sleep 0.2
  ask "UPDATE mlops_windows SET until = clock_timestamp() + interval '60 s' WHERE versions = 'postgres'"
done
ask "UPDATE mlops_windows SET settled = clock_timestamp(), until = 'infinity' WHERE versions = 'postgres'"
trap - EXIT
