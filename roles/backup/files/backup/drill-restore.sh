#!/bin/sh
# Restores the databases of the backup that was chosen to the volume of this pod, and checks their tables and indexes.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
data=/var/lib/postgresql/data/pgdata
here="${0%/*}"

# Of dumps, a new cluster of databases is made; the file has their names and owners. Both ways leave PostgreSQL's configuration
# in /tmp, which the containers of this pod share.
if [ -e /work/databases ]; then
  initdb --pgdata="$data" --username=postgres --auth=trust --data-checksums --encoding=UTF8 --locale=C.UTF-8
  printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '/tmp'" >/tmp/postgresql.conf
  echo "local all all trust" >/tmp/pg_hba.conf
else
  . /work/target.sh
  export ARCHIVE=off PGBACKREST_CONFIG=/etc/backup/drill.conf
  sh "$here/restore.sh"
fi

pg_ctl start --pgdata="$data" --silent --wait --log=/tmp/log --timeout=600 \
  --options="-c config_file=/tmp/postgresql.conf -c hba_file=/tmp/pg_hba.conf"
export PGHOST=/tmp
if [ -e /work/databases ]; then
  while read -r database role; do
    psql --no-psqlrc --quiet --username=postgres --set=ON_ERROR_STOP=1 --set=database="$database" --set=role="$role" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'role') \gexec
SQL
    PGUSER="$role" sh "$here/load.sh" "$database"
  done </work/databases
fi
code=0
# https://www.postgresql.org/docs/17/app-pgamcheck.html
pg_amcheck --username=postgres --all --install-missing --heapallindexed >/tmp/amcheck 2>&1 || code=$?
if [ "$code" -ne 0 ]; then
  head -n 20 /tmp/amcheck >&2
  echo "Tables or indexes of the restored databases are not whole: see the log of this container" | tee /dev/termination-log >&2
fi
pg_ctl stop --pgdata="$data" --silent --wait --mode=fast --timeout=600
exit "$code"
