"""Write artifacts of runs straight to the bucket that backups read, or remove them again.

It runs in a pod like a backup's, with its configuration and environment. Reads a JSON object from standard input:
    runs: IDs of the runs.
    experiment: their experiment's ID.
    mebibytes: about how much to write; 0 removes what is there.

Prints a JSON object: objects and bytes.
"""

import concurrent.futures
import json
import os
import sys

from mlops_mlflow_server import backup, buckets

# 16 files of 16 MiB in all: most are small, and most bytes are in large ones, as where models are logged.
SIZES = (*[16 << 10] * 8, *[256 << 10] * 4, *[1 << 20] * 3, (12 << 20) - (128 << 10))
THREADS = 4


def write(bucket, asked):
    content = os.urandom(max(SIZES))

    def one(number):
        size = SIZES[number % len(SIZES)]
        run = asked["runs"][number // len(SIZES) % len(asked["runs"])]
        key = f"{asked['experiment']}/{run}/artifacts/{number}.bin"
        # Another content for each, by its beginning.
        bucket.client.put_object(
            Bucket=bucket.name, Key=bucket.prefix + key, Body=number.to_bytes(8, "big") + content[8:size]
        )
        return size

    count = asked["mebibytes"] // 16 * len(SIZES)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        return count, sum(threads.map(one, range(count)))


def remove(bucket, asked):
    pages = bucket.client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket.name, Prefix=f"{bucket.prefix}{asked['experiment']}/"
    )
    count = size = 0
    for page in pages:
        if found := page.get("Contents", []):
            keys = [{"Key": each["Key"]} for each in found]
            bucket.client.delete_objects(Bucket=bucket.name, Delete={"Objects": keys, "Quiet": True})
            count, size = count + len(found), size + sum(each["Size"] for each in found)
    return count, size


def main():
    asked = json.load(sys.stdin)
    bucket = buckets.opened(backup.config(), "source")
    count, size = (write if asked["mebibytes"] else remove)(bucket, asked)
    print(json.dumps({"objects": count, "bytes": size}))


if __name__ == "__main__":
    main()
