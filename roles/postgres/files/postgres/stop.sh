#!/bin/sh
# Stops PostgreSQL without waiting for clients to leave, as it would on SIGTERM.
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
exec pg_ctl stop --silent --wait --mode=fast --timeout=50
