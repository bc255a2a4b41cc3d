#!/bin/sh
# Lists the buckets and access keys of the provision Job that are no longer declared, a line each: name and size; deletes
# those that are named after `delete`.
#   prune.sh URL BUCKETS [delete NAME...]
# BUCKETS are those that are declared, with a comma around each. Only sh and mc are needed.
set -euf
url="$1" declared="$2"
shift 2
lines='
'
tab='	'
words=" $tab$lines"
# In memory, and not for longer than this runs.
export MC_CONFIG_DIR=/dev/shm/prune
if [ -e /etc/minio-certs/CAs/ca.crt ]; then export SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt; fi
trap 'mc --quiet alias remove minio >/dev/null' EXIT
printf '%s\n%s\n' "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" | mc --quiet alias set minio "$url" --api S3v4 >/dev/null

# The Job makes a policy for each bucket. Keys are members of its group, and it disables those that are no longer declared.
there="$(mc --quiet ls minio)"
policies="$(mc --quiet admin policy list minio)"
groups="$(mc --quiet admin group list minio)"
buckets="" others="" keys="" count=0
for policy in $policies; do
  bucket="${policy#bucket-}"
  if [ "$bucket" = "$policy" ]; then continue; fi
  case "$declared" in *",$bucket,"*) continue ;; esac
  case "$there$lines" in
    *" $bucket/$lines"*) buckets="$buckets $bucket" ;;
    *) others="$others $bucket" ;;
  esac
done
case "$lines$groups$lines" in
  *"${lines}mlops.mlflow$lines"*)
    info="$(mc --quiet admin group info minio mlops.mlflow)"
    members="${info#*Members:}"
    members="${members%%"$lines"*}"
    IFS=,
    for member in ${members# }; do
      # The other of two names, between which rotations change.
      case "$declared" in *",$member,"* | *",${member%_2},"*) continue ;; esac
      IFS="$words"
      user="$(mc --quiet admin user info minio "$member")"
      case "$user" in
        *"Status: disabled"*)
          keys="$keys$member$lines"
          count=$((count + 1))
          ;;
      esac
      IFS=,
    done
    IFS="$words"
    ;;
esac

if [ "${1:-}" != delete ]; then
  for bucket in $buckets; do
    size="$(mc --quiet du --versions "minio/$bucket")"
    size="${size##*"$lines"}"
    echo "bucket/$bucket ${size%%"$tab"*}"
  done
  for bucket in $others; do echo "policy/bucket-$bucket "; done
  if [ "$count" -gt 0 ]; then echo "access-keys/disabled $count"; fi
  exit 0
fi
shift
# Keys first: a policy that one of them has can't be removed. It stays until the keys go too, and is listed then.
for name in "$@"; do
  if [ "$name" = access-keys/disabled ]; then
    IFS="$lines"
    for key in $keys; do mc --quiet admin user remove minio "$key" >/dev/null; done
    IFS="$words"
  fi
done
for name in "$@"; do
  case "$name" in
    bucket/*) known="$buckets " bucket="${name#bucket/}" ;;
    policy/bucket-*) known="$others " bucket="${name#policy/bucket-}" ;;
    *) continue ;;
  esac
  case "$known" in
    *" $bucket "*)
      case "$name" in bucket/*) mc --quiet rb --force "minio/$bucket" >/dev/null ;; esac
      if ! reason="$(mc --quiet admin policy remove minio "bucket-$bucket" 2>&1)"; then
        case "$name: $reason" in
          bucket/*"in use"*) ;;
          *) echo "$reason" >&2 && exit 1 ;;
        esac
      fi
      ;;
  esac
done
