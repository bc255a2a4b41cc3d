#!/bin/sh
# Whether the server takes connections over the network; the one that sets the superuser's password listens on none.
for directory in /usr/lib/postgresql/*/bin; do PATH="$directory:$PATH"; done
exec pg_isready --quiet --host=127.0.0.1
