#!/bin/sh
# Makes the buckets, and for each an access key that is limited to it. Only sh, sleep and mc are needed.
# Keys go to mc through its standard input, where no list of processes shows them.
set -eu

# Sets `value` to a key of a Secret. mc takes one line, and shows a key in its message when it refuses it, so that is checked here.
credential() { # file, least length, what it is
  value=""
  rest=""
  { IFS= read -r value && IFS= read -r rest; } <"$1" || true
  if [ -n "$rest" ] || [ "${#value}" -lt "$2" ]; then
    echo "$3 has to be one line of $2 characters or more" >&2
    exit 1
  fi
}

# The server takes its root key without the blanks around it.
trimmed() {
  read -r value <<TEXT
$value
TEXT
}

credential /credentials/root/username 3 "username of Secret minio-root"
trimmed
user="$value"
credential /credentials/root/password 8 "password of Secret minio-root"
trimmed
printf '%s\n%s\n' "$user" "$value" | mc --quiet alias set minio "$MINIO_ENDPOINT" --api S3v4 >/dev/null

waited=0
until reason="$(mc --quiet ls minio 2>&1 >/dev/null)"; do
  if [ "$waited" -ge "$WAIT_SECONDS" ]; then
    echo "MinIO did not let its root key in within $WAIT_SECONDS s: $reason" >&2
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done

# Marks the users of this script, as members of a group without a policy.
group=mlops.mlflow
declared=,
while read -r number bucket versioning names <&3; do
  echo "bucket $bucket"
  mc --quiet mb --ignore-existing "minio/$bucket"

  # Where versions were never kept, nothing is to be suspended.
  state="$(mc --quiet version info "minio/$bucket")"
  case "$versioning:$state" in
    on:*enabled*) ;;
    on:*) mc --quiet version enable "minio/$bucket" ;;
    off:*enabled*) mc --quiet version suspend "minio/$bucket" ;;
  esac

  policy="bucket-$bucket"
  mc --quiet admin policy create minio "$policy" "/etc/provision/policy-$number.json"

  credential "/credentials/$number/AWS_ACCESS_KEY_ID" 3 "AWS_ACCESS_KEY_ID for bucket $bucket"
  key="$value"
  credential "/credentials/$number/AWS_SECRET_ACCESS_KEY" 8 "AWS_SECRET_ACCESS_KEY for bucket $bucket"
  printf '%s\n%s\n' "$key" "$value" | mc --quiet admin user add minio
  # mc fails where nothing is to be done.
  if ! reason="$(mc --quiet admin policy attach minio "$policy" --user "$key" 2>&1)"; then
    case "$reason" in
      *"already in effect"*) ;;
      *) echo "$reason" >&2 && exit 1 ;;
    esac
  fi
  mc --quiet admin group add minio "$group" "$key" >/dev/null
  declared="$declared$key,"
  # Until all pods have the new one of the two names.
  if [ "$ROTATING" = true ]; then declared="$declared$names,"; fi
done 3</etc/provision/buckets

# A key that was declared before would stay valid for ever. MinIO allows no comma in a key.
members=""
if ! info="$(mc --quiet admin group info minio "$group")"; then
  # Without a bucket, the group may never have been made.
  [ "$declared" = , ] && exit 0
  exit 1
fi
while IFS= read -r line; do
  case "$line" in
    Members:*) members="${line#Members:}" ;;
  esac
done <<TEXT
$info
TEXT
set -f
IFS=,
for member in ${members# }; do
  case "$declared" in
    *",$member,"*) ;;
    *)
      mc --quiet admin user disable minio "$member" >/dev/null
      echo "an access key that is no longer declared is disabled"
      ;;
  esac
done
