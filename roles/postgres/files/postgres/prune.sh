#!/bin/sh
# Lists, as a line of JSON, the databases and roles of the provision Job that are no longer declared, and directories that a
# restore or an upgrade has left; deletes those that are named after `delete`.
#   prune.sh DATABASES ROLES [delete NAME...]
# DATABASES and ROLES are those that are declared, as arrays of PostgreSQL.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
databases="$1" roles="$2"
shift 2
volume="${PGDATA%/*}"

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --dbname=postgres --set=ON_ERROR_STOP=1 \
    --set=databases="$databases" --set=roles="$roles" --set=name="${1:-}"
}

# Ours are databases and roles with the Job's comment, and databases of such roles, which earlier versions left without one.
left="
WITH ours AS (SELECT oid, rolname, rolcanlogin FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = 'mlops.mlflow'),
bases AS (
  SELECT oid, datname, pg_database_size(oid) AS size,
    (SELECT count(*) FROM pg_stat_activity AS busy WHERE busy.datid = base.oid) AS sessions
  FROM pg_database AS base
  WHERE coalesce(shobj_description(oid, 'pg_database'),
                 (SELECT 'mlops.mlflow' FROM ours WHERE ours.oid = datdba)) = 'mlops.mlflow'
    AND NOT datistemplate AND datname <> 'postgres' AND datname <> ALL (:'databases'::text[])
),
users AS (
  -- What depends on a role, but for what goes with a database above.
  SELECT rolname, (
    SELECT string_agg(DISTINCT coalesce((SELECT datname FROM pg_database AS base
        WHERE base.oid = CASE WHEN classid = 'pg_database'::regclass THEN objid ELSE dbid END), 'the server'), ', ')
    FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = ours.oid AND dbid NOT IN (SELECT oid FROM bases WHERE sessions = 0)
      AND NOT (classid = 'pg_database'::regclass AND objid IN (SELECT oid FROM bases WHERE sessions = 0))
  ) AS owns
  -- The Job lets those log in that are declared.
  FROM ours WHERE rolname <> ALL (:'roles'::text[]) AND NOT rolcanlogin
),
things AS (
  SELECT 'database/' || datname AS name, pg_size_pretty(size) AS holds,
    CASE WHEN sessions > 0 THEN sessions || ' sessions use it' END AS kept FROM bases
  UNION ALL
  SELECT 'role/' || rolname, '', CASE WHEN owns IS NOT NULL THEN 'it owns objects or has rights in ' || owns END FROM users
)"

directories() {
  for directory in "$PGDATA.before" "$PGDATA.restored" "$PGDATA.upgraded" "$PGDATA.dump"; do
    if [ -d "$directory" ]; then
      size="$(du -sm "$directory")"
      printf ', {"name": "directory/%s", "holds": "%s MiB", "kept": null}' "${directory##*/}" "${size%%[!0-9]*}"
    fi
  done
}

if [ "${1:-}" != delete ]; then
  found="$(printf '%s' "$left SELECT coalesce(json_agg(things), '[]') FROM things" | ask)"
  directories="$(directories)"
  # Of two lists one.
  if [ "$found" = "[]" ]; then directories="${directories#, }"; fi
  printf '%s%s]\n' "${found%]}" "$directories"
  exit 0
fi
shift

# Looked for again: what is used by now stays. Roles come last, since they own the databases.
for kind in database role directory; do
  for name in "$@"; do
    case "$name" in
      directory/pgdata.before | directory/pgdata.restored | directory/pgdata.upgraded | directory/pgdata.dump) if [ "$kind" = directory ]; then rm -rf "${volume:?}/${name#*/}"; fi ;;
      "$kind"/*)
        printf '%s' "$left SELECT format('DROP $kind %I', :'name') FROM things WHERE name = '$kind/' || :'name' AND kept IS NULL \\gexec" |
          ask "${name#*/}"
        ;;
    esac
  done
done
