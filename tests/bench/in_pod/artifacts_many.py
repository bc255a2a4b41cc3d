"""Store and fetch many artifacts at once. It needs only the standard library.

Reads a JSON object from standard input:
    url: the server, such as http://10.0.0.1:5000; host: value of the header Host.
    user, token: Basic credentials; without a user, requests are anonymous.
    experiment: ID of the experiment for a new run.
    files, bytes, clients: how many artifacts, their size, and how many are transferred at once.

Prints a JSON object of seconds: up, down; and failed, the number of artifacts that failed, with the first error.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse

BLOCK = os.urandom(1 << 16)
local = threading.local()


def connection(place):
    """Return this thread's connection."""
    if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection(place.hostname, place.port, timeout=600)
    return local.connection


def blocks(size):
    """Yield `size` bytes."""
    while size:
        block = BLOCK[: min(size, len(BLOCK))]
        size -= len(block)
        yield block


def transfer(place, method, path, headers, size):
    """Store or fetch one artifact; return the error, empty if there was none."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        http_connection = connection(place)
        body = blocks(size) if method == "PUT" else None
        length = {"Content-Length": str(size)} if method == "PUT" else {}
        try:
            http_connection.request(method, path, body=body, headers={**headers, **length})
            answer = http_connection.getresponse()
            received, start = 0, b""
            while piece := answer.read(1 << 20):
                received += len(piece)
                start = start or piece[:300]
        except (OSError, http.client.HTTPException):
            # A refusal, after which the server reads no more of the body.
            http_connection.close()
            time.sleep(1)
            continue
        if answer.status == 429:
            # The server asks who waits for too long to come back, as MLflow's client does.
            time.sleep(1)
            continue
        if answer.status != 200:
            return f"HTTP {answer.status}: {start.decode(errors='replace')}"
        return "" if method == "PUT" or received == size else f"{received} of {size} bytes"
    return "no answer within 10 minutes"


def main():
    asked = json.load(sys.stdin)
    place = urllib.parse.urlsplit(asked["url"])
    headers = {"Host": asked["host"]}
    if asked.get("user"):
        words = f"{asked['user']}:{asked['token']}"
        headers["Authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
    first = connection(place)
    body = json.dumps({"experiment_id": asked["experiment"], "run_name": "many artifacts"})
    first.request("POST", "/api/2.0/mlflow/runs/create", body, {**headers, "Content-Type": "application/json"})
    run = json.loads(first.getresponse().read())["run"]["info"]["run_id"]
    root = f"/api/2.0/mlflow-artifacts/artifacts/{asked['experiment']}/{run}/artifacts"
    result = {"failed": 0, "error": ""}
    with concurrent.futures.ThreadPoolExecutor(asked["clients"]) as pool:
        for name, method in (("up", "PUT"), ("down", "GET")):
            begun = time.monotonic()
            calls = [
                pool.submit(transfer, place, method, f"{root}/{number}.bin", headers, asked["bytes"])
                for number in range(asked["files"])
            ]
            errors = [error for call in calls if (error := call.result())]
            result["failed"] += len(errors)
            result["error"] = result["error"] or next(iter(errors), "")
            result[name] = time.monotonic() - begun
    print(json.dumps(result))


if __name__ == "__main__":
    main()
