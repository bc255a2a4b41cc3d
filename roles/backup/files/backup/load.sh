#!/bin/sh
# Replaces the content of the databases that the arguments name by that of their dumps, each in one transaction: whatever
# interrupts it, a database is as before or as in its dump. PG... say where.
set -eu
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done

for database in "$@"; do
  rm -f /tmp/cut /tmp/whole
  # It is committed by words that come after the whole dump, and not at the end of what psql reads. Names and rights of roles
  # are left out, since another server has others. A server before 17 does not know that setting, which is in the first lines.
  {
    {
      echo "BEGIN;"
      cat "${0%/*}/empty.sql"
      { pg_restore --no-owner --no-privileges --no-comments --file=- "/dumps/$database.dump" || touch /tmp/cut; } |
        sed '1,20{/^SET transaction_timeout = 0;$/d;}' &&
        [ ! -e /tmp/cut ] && touch /tmp/whole && echo "COMMIT;"
    } | psql --no-psqlrc --no-password --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --set=VERBOSITY=terse --dbname="$database"
  } 2>/tmp/error || rm -f /tmp/whole
  cat /tmp/error >&2
  if [ ! -e /tmp/whole ]; then
    echo "The database $database stays as it was, since its dump could not be restored: $(head -n 1 /tmp/error)" |
      tee /dev/termination-log >&2
    exit 1
  fi
  echo "The database $database is restored"
done
