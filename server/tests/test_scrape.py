"""Metrics and the audit log of several workers, with artifacts in MinIO, and a folder for the audit log."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import resource
import secrets
import signal
import subprocess
import threading
import time

import httpx
import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

import conftest
from lib import minio as store
from mlops_mlflow_server import scrape
from test_metrics import scraped, value

API = "/api/2.0/mlflow"
CHANGES, CLIENTS = 1000, 16
COUNT = "mlflow_http_request_duration_seconds_count"


@pytest.fixture(scope="module")
def server(migrated, minio, tmp_path_factory):
    """A server with two workers, whose log is JSON."""
    folder = tmp_path_factory.mktemp("audit")
    server = conftest._serving(
        "none",
        migrated,
        tmp_path_factory,
        "--workers=2",
        f"--artifacts-destination=s3://{store.BUCKET}",
        **minio.variables,
        MLOPS_AUDIT_LOG=str(folder),
        MLOPS_LOG_FORMAT="json",
    )
    server.audit_folder = folder
    try:
        yield server.wait()
    finally:
        server.stop()


def lines(server):
    """Return the lines of the audit log."""
    (file,) = server.audit_folder.iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def workers(server):
    """Return the processes that serve."""
    found = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=True)
    commands = {int(pid): pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in found.stdout.split()}
    return {pid for pid, command in commands.items() if "spawn_main" in command}


def wait_for_workers(server):
    """Return when both workers serve."""
    end = time.monotonic() + 120
    while len(workers(server)) != 2 or value(scraped(server), "mlflow_workers") != 2:
        assert time.monotonic() < end
        time.sleep(0.5)


def experiment(server):
    with server.client() as client:
        answer = client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["experiment_id"]


def test_a_worker_that_is_killed_takes_no_counts_along(server):
    for _unused in range(20):
        experiment(server)
    before = scraped(server)
    assert value(before, "mlflow_workers") == 2
    killed = min(workers(server))
    os.kill(killed, signal.SIGKILL)
    wait_for_workers(server)
    assert killed not in workers(server)
    after = scraped(server)
    assert value(after, COUNT) >= value(before, COUNT)
    assert value(after, "mlflow_call_threads", lane="others") == 16


def test_artifacts_and_a_scrape_during_an_upload(server):
    path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment(server)}/slow.bin"
    begun, go_on = threading.Event(), threading.Event()

    def content():
        yield b"x" * 1024
        begun.set()
        go_on.wait(60)
        yield b"x" * 1024

    with concurrent.futures.ThreadPoolExecutor() as pool, server.client() as client:
        upload = pool.submit(client.put, path, content=content())
        begun.wait(60)
        started = time.monotonic()
        during = scraped(server)
        assert time.monotonic() - started < 5
        assert value(during, "mlflow_http_requests_in_flight") >= 1
        go_on.set()
        assert upload.result().status_code == 200
    after = scraped(server)
    assert value(after, "mlflow_s3_request_duration_seconds_count", operation="PutObject", result="ok") >= 1
    route = "/api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>"
    assert value(after, COUNT, route=route, method="PUT", status="2xx") == 1


def test_every_change_that_is_answered_has_a_line(server):
    found, answered, local = experiment(server), [], threading.local()
    killed = min(workers(server))

    def change(number):
        body = {"experiment_id": found, "tags": [{"key": "number", "value": str(number)}]}
        if number == CHANGES // 2:
            os.kill(killed, signal.SIGKILL)
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = local.client.post(f"{API}/runs/create", json=body)
                # On a busy machine the database may not answer in time.
                if answer.status_code != 503:
                    assert answer.status_code == 200, answer.text
                    answered.append((answer.headers["x-request-id"], answer.json()["run"]["info"]["run_id"]))
                    return

    with concurrent.futures.ThreadPoolExecutor(
        CLIENTS, initializer=lambda: setattr(local, "client", server.client())
    ) as pool:
        list(pool.map(change, range(CHANGES)))
    assert len(answered) == CHANGES
    known = {identifier for identifier, _run in answered}
    written = [(line["id"], line["names"]["run_id"]) for line in lines(server) if line["id"] in known]
    assert sorted(written) == sorted(answered)
    wait_for_workers(server)


def test_changes_are_refused_while_the_log_cannot_be_written(server):
    found = experiment(server)
    (file,) = server.audit_folder.iterdir()
    # A full device, at what the workers have open: each worker opens its file by this name.
    body = {"experiment_id": found, "key": "a", "value": "b"}
    with server.client() as client:
        set_limit(server, file.stat().st_size)
        try:
            refused = [client.post(f"{API}/experiments/set-experiment-tag", json=body) for _unused in range(6)]
            assert {answer.status_code for answer in refused} == {503}
            assert "audit log" in refused[0].json()["message"]
            assert client.get(f"{API}/experiments/get", params={"experiment_id": found}).status_code == 200
        finally:
            set_limit(server, -1)
        assert client.post(f"{API}/experiments/set-experiment-tag", json=body).status_code == 200
    assert value(scraped(server), "mlflow_audit_lines_total", result="failed") >= 1


def set_limit(server, size):
    """Let the workers write no file beyond this size."""
    limit = resource.RLIM_INFINITY if size < 0 else size
    for worker in workers(server):
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_every_line_of_the_log_is_json(server):
    experiment(server)
    with server.client() as client:
        client.get(f"{API}/experiments/get", params={"experiment_id": "of-a-query"}, headers={"x-request-id": "a b"})
        client.get("/nothing%0Ahere", headers={"x-request-id": "of-the-test"})
    parsed = [json.loads(line) for line in server.log().splitlines()]
    (call,) = [line for line in parsed if line.get("id") == "of-the-test" and line["logger"] == "call"]
    assert (call["status"], call["path"], call["route"]) == (404, "/nothing\nhere", "none")
    assert "of-a-query" not in server.log()
    assert "a b" not in [line.get("id") for line in parsed]


def test_statements_name_their_call(server):
    server.databases.server.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
    server.databases.server.execute("SELECT pg_reload_conf()")
    try:
        time.sleep(1)
        with server.client(headers={"x-request-id": "of-a-statement"}) as client:
            client.post(f"{API}/experiments/create", json={"name": f"of-{secrets.token_hex(4)}"})
        assert "/*request_id='of-a-statement'*/" in server.databases.server.log()
    finally:
        server.databases.server.execute("ALTER SYSTEM RESET log_min_duration_statement")
        server.databases.server.execute("SELECT pg_reload_conf()")


def test_files_of_ended_processes_are_merged(tmp_path):
    key = mmap_key("calls", "calls_total", [], [], "help")
    for process in range(12):
        for kind in ("counter", "gauge_livesum"):
            # Numbers beyond those that the kernel gives.
            file = MmapedDict(str(tmp_path / f"{kind}_{2**22 + process}.db"))
            file.write_value(key, 1.0, 0.0)
            file.close()
    scrape.sweep(str(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["counter_0.db"]
    ((_key, total, _time, _place),) = MmapedDict.read_all_values_from_file(str(tmp_path / "counter_0.db"))
    assert total == 12


def test_metrics_are_not_served_to_users(server):
    assert httpx.get(f"{server.url}/metrics").status_code == 404
