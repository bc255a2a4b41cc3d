#!/bin/sh
# Restores the databases of the backup that was chosen to the volume of this pod.
set -eu
. /work/target.sh
export ARCHIVE=off PGBACKREST_CONFIG=/etc/backup/drill.conf
exec sh /etc/backup/restore.sh
