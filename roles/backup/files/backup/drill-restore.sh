#!/bin/sh
# Restores the databases of the backup that was chosen to the volume of this pod, and checks their tables and indexes.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
. /work/target.sh
export ARCHIVE=off PGBACKREST_CONFIG=/etc/backup/drill.conf
# It leaves its configuration of PostgreSQL in /tmp, which the containers of this pod share.
sh /etc/backup/restore.sh

data=/var/lib/postgresql/data/pgdata
pg_ctl start --pgdata="$data" --silent --wait --log=/tmp/log --timeout=600 \
  --options="-c config_file=/tmp/postgresql.conf -c hba_file=/tmp/pg_hba.conf"
code=0
# https://www.postgresql.org/docs/17/app-pgamcheck.html
pg_amcheck --host=/tmp --username=postgres --all --install-missing --heapallindexed >/tmp/amcheck 2>&1 || code=$?
if [ "$code" -ne 0 ]; then
  head -n 20 /tmp/amcheck >&2
  echo "Tables or indexes of the restored databases are not whole: see the log of this container" | tee /dev/termination-log >&2
fi
pg_ctl stop --pgdata="$data" --silent --wait --mode=fast --timeout=600
exit "$code"
