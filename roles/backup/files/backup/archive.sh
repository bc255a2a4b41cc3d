#!/bin/sh
# Has PostgreSQL archive what it wrote up to now, and waits until it is there.
set -eu

pgbackrest check
pgbackrest info --output=json --log-level-console=warn >/work/info.json
