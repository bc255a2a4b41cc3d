"""Log batches of metrics for some seconds and print the result. It needs only the standard library.

Reads a JSON object from standard input:
    url: the server, such as http://10.0.0.1:5000. By https, SSL_CERT_FILE names what verifies its certificate.
    host: value of the header Host.
    user, token: Basic credentials; without a user, requests are anonymous.
    experiment: ID of the experiment in which each connection creates a run.
    connections: number of connections, each with one request at a time.
    seconds: duration; warm_up: seconds of it that are not counted.
    metrics: values in a batch.

Prints a JSON object: requests, failed, error (the first one), seconds, p50, p95 and p99 (ms).
"""

import base64
import http.client
import json
import statistics
import sys
import threading
import time
import urllib.parse

LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"


class Connection:
    """A persistent connection, its run, and the durations of its requests in seconds."""

    def __init__(self, asked):
        place = urllib.parse.urlsplit(asked["url"])
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        self.http = kind(place.hostname, place.port, timeout=60)
        self.headers = {"Host": asked["host"], "Content-Type": "application/json"}
        if asked.get("user"):
            words = f"{asked['user']}:{asked['token']}"
            self.headers["Authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
        self.times = []
        self.failed = 0
        self.error = ""
        self.names = [f"metric_{number}" for number in range(asked["metrics"])]
        status, answer = self.post(
            "/api/2.0/mlflow/runs/create",
            {"experiment_id": asked["experiment"], "start_time": int(time.time() * 1000), "run_name": "log-batch"},
        )
        if status != 200:
            raise SystemExit(f"no run was made: HTTP {status}: {answer[:300]!r}")
        self.run = json.loads(answer)["run"]["info"]["run_id"]

    def post(self, path, content):
        self.http.request("POST", path, json.dumps(content).encode(), self.headers)
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def log(self, step):
        """Log one batch; return whether the server accepted it."""
        now = int(time.time() * 1000)
        metrics = [{"key": name, "value": step / 7, "timestamp": now, "step": step} for name in self.names]
        try:
            status, answer = self.post(LOG_BATCH, {"run_id": self.run, "metrics": metrics})
        except (OSError, http.client.HTTPException) as error:
            self.http.close()
            status, answer = 0, str(error).encode()
        if status != 200:
            self.error = self.error or f"HTTP {status}: {answer[:300].decode(errors='replace')}"
        return status == 200

    def work(self, begin, end):
        """Log until `end`; requests that start before `begin` are not counted."""
        step = 0
        while (before := time.monotonic()) < end:
            taken = self.log(step)
            step += 1
            if before < begin:
                continue
            if taken:
                self.times.append(time.monotonic() - before)
            else:
                self.failed += 1


def main():
    asked = json.load(sys.stdin)
    connections = [Connection(asked) for _unused in range(asked["connections"])]
    begin = time.monotonic() + asked["warm_up"]
    end = begin + asked["seconds"]
    threads = [threading.Thread(target=connection.work, args=(begin, end)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - begin
    times = [value * 1000 for connection in connections for value in connection.times]
    parts = statistics.quantiles(times, n=100) if len(times) > 1 else [0] * 99
    result = {
        "requests": len(times),
        "failed": sum(connection.failed for connection in connections),
        "error": next((connection.error for connection in connections if connection.error), ""),
        "seconds": taken,
        "p50": parts[49],
        "p95": parts[94],
        "p99": parts[98],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
