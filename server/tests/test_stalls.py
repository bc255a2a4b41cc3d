"""An object store or a database that stalls: a real TCP peer that takes connections and does not answer."""

import concurrent.futures
import socket
import threading
import time

import pytest

import conftest
from lib import process

CALLS = 24


class Gate:
    """A TCP proxy on 127.0.0.1 that can stop passing on; without a target it never answers."""

    def __init__(self, target=None):
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._plugs = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self):
        self._open.clear()

    def release(self):
        self._open.set()

    def close(self):
        self.release()
        for plug in (self._listener, *self._plugs):
            plug.close()

    def _accept(self):
        while True:
            try:
                plug, _address = self._listener.accept()
            except OSError:
                return
            self._plugs.append(plug)
            if self._target is None:
                continue
            other = socket.create_connection(("127.0.0.1", self._target))
            self._plugs.append(other)
            for one, two in ((plug, other), (other, plug)):
                threading.Thread(target=self._pass, args=(one, two), daemon=True).start()

    def _pass(self, one, two):
        try:
            while data := one.recv(65536):
                self._open.wait()
                two.sendall(data)
            two.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def server(migrated, tmp_path):
    """A server behind two gates: one for its object store, which never answers, and one for its tracking database."""
    databases = migrated("oidc").copy()
    store, database = Gate(), Gate(databases.server.port)
    variables = {
        **databases.variables,
        **conftest.oidc_variables(conftest._provider.issuer),
        "MLOPS_AUTH": "oidc",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name in ("MLFLOW_BACKEND_STORE_URI", "OIDC_USERS_DB_URI"):
        variables[name] = variables[name].replace(str(databases.server.port), str(database.port))
    server = process.Server(tmp_path, variables, "--artifacts-destination", "s3://mlflow")
    server.database = database
    try:
        yield server.wait(300)
    finally:
        server.stop()
        store.close()
        database.close()


def _slowest(calls, seconds):
    """Return the duration of the slowest call within `seconds`."""
    durations, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for call in calls:
            began = time.monotonic()
            call()
            durations.append(time.monotonic() - began)
        time.sleep(0.1)
    return max(durations)


def test_stalled_object_store_delays_neither_probes_nor_tracking(server):
    with server.client(auth=(conftest.ADMIN, conftest.ADMIN_PASSWORD)) as client:
        made = client.post("/api/2.0/mlflow/experiments/create", json={"name": "stalls"}).json()
        run = client.post("/api/2.0/mlflow/runs/create", json=made).json()["run"]["info"]
        path = f"/api/2.0/mlflow-artifacts/artifacts/{made['experiment_id']}/{run['run_id']}/artifacts/a.txt"
        done = []

        def artifact(number):
            with server.client(auth=(conftest.ADMIN, conftest.ADMIN_PASSWORD)) as other:
                other.timeout = 120
                status = (other.get(path) if number % 2 else other.put(path, content=b"x")).status_code
                done.append(status)
                return status

        def log():
            body = {"run_id": run["run_id"], "metrics": [{"key": "a", "value": 1, "timestamp": 1, "step": 0}]}
            assert client.post("/api/2.0/mlflow/runs/log-batch", json=body).status_code == 200

        def live():
            assert client.get("/health/live").status_code == 200

        def ready():
            assert client.get("/health/ready").status_code == 200

        with concurrent.futures.ThreadPoolExecutor(CALLS) as pool:
            calls = [pool.submit(artifact, number) for number in range(CALLS)]
            time.sleep(1)
            assert _slowest([log, live, ready], 6) < 3
            # All of them were waiting meanwhile.
            assert done == []
            server.stop()
            for call in calls:
                call.exception()


def test_stalled_database_does_not_delay_probes(server):
    with server.client(auth=(conftest.ADMIN, conftest.ADMIN_PASSWORD)) as client:
        assert client.post("/api/2.0/mlflow/experiments/search", json={"max_results": 1}).status_code == 200

        def live():
            assert client.get("/health/live").status_code == 200

        def search(_number):
            with server.client(auth=(conftest.ADMIN, conftest.ADMIN_PASSWORD)) as other:
                return other.post("/api/2.0/mlflow/experiments/search", json={"max_results": 1}).status_code

        server.database.stall()
        with concurrent.futures.ThreadPoolExecutor(CALLS) as pool:
            calls = [pool.submit(search, number) for number in range(CALLS)]
            time.sleep(1)
            assert _slowest([live], 5) < 3
            assert not any(call.done() for call in calls)
            server.database.release()
            assert {call.result() for call in calls} == {200}
