"""Throughput of the stack, compared with plain MLflow and the plain object store."""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.parse

import requests

from tests.bench.report import Figure, Part
from tests.lib import stack as stacks

SCRIPTS = pathlib.Path(__file__).resolve().parent / "in_pod"
NAMESPACE = stacks.NAMESPACES["mlflow"]
LABEL = "app.kubernetes.io/name"
NAME = "mlflow-bench"
RATE_AIM = 1.0
LATENCY_AIM = 1.2
TRANSFER_AIM = 0.8
DIRECT_AIM = 0.95
SMALL_FILES_AIM = 1.2
SEARCH_AIM = 1.5
EDGE_AIM = 0.9
MEMORY_AIM = 600  # MiB of a worker, whose limit is 1 GiB
# After a killed benchmark, everything is removed within this time.
POD_SECONDS = 3600
# Variables of MLflow itself; the others belong to the stack's login.
# What the stack's CA is read from, by OpenSSL and by requests.
CA_FILE = "/etc/mlflow/ca/ca.crt"
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
MLFLOW_VARIABLES = ("PG", "MLFLOW_", "AWS_", "HOME", "TMPDIR", "PYTHON", "GIT_PYTHON", "MALLOC")


class ServerError(Exception):
    """A failure; the message is one sentence."""


def deployment_of(stack):
    """Return MLflow's Deployment as a dictionary."""
    found = stack.apps.read_namespaced_deployment("mlflow", NAMESPACE)
    return stack.api.sanitize_for_serialization(found)


def service_of(stack):
    """Return host and port of MLflow's Service, as pods know it."""
    port = stack.core.read_namespaced_service("mlflow", NAMESPACE).spec.ports[0].port
    return f"mlflow.{NAMESPACE}.svc:{port}"


def option(deployment, name):
    """Return the value of an option `--name=value` of MLflow's container."""
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return next((value.partition("=")[2] for value in arguments if value.startswith(f"--{name}=")), "")


def variable(deployment, name):
    """Return the value of an environment variable of MLflow's container, empty if it has none."""
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return next((entry.get("value", "") for entry in entries if entry["name"] == name), "")


def _body(deployment, name, command, *, cpu, memory, probe=None, env=None, hosts=None):
    """Return a pod like MLflow's own, except for its command, the values in `env`, and the addresses of `hosts`."""
    given = deployment["spec"]["template"]["spec"]
    container = given["containers"][0]
    kept = ("image", "imagePullPolicy", "securityContext", "volumeMounts")
    made = {key: container[key] for key in kept if key in container}
    made["name"] = "mlflow"
    made["command"] = command
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | (env or {})
    inherited = [entry for entry in container["env"] if entry["name"].startswith(MLFLOW_VARIABLES)]
    made["env"] = [entry for entry in inherited if entry["name"] not in own]
    made["env"] += [{"name": key, "value": value} for key, value in own.items()]
    made["resources"] = {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": memory}}
    if probe:
        made["readinessProbe"] = {"httpGet": probe, "periodSeconds": 1, "timeoutSeconds": 5}
    kept = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "imagePullSecrets")
    spec = {key: given[key] for key in (*kept, "securityContext", "volumes") if key in given}
    # /tmp of a server has a limit, which the files of a client and of plain MLflow are beyond.
    spec["volumes"] = [volume | {"emptyDir": {}} if "emptyDir" in volume else volume for volume in spec["volumes"]]
    spec |= {"containers": [made], "restartPolicy": "Never", "activeDeadlineSeconds": POD_SECONDS}
    spec["hostAliases"] = [{"ip": address, "hostnames": [host]} for host, address in (hosts or {}).items()]
    metadata = {"name": name, "labels": {LABEL: NAME}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def remove_pods(stack):
    """Remove the benchmark's pods, and wait until they are gone."""
    selector = f"{LABEL}={NAME}"
    stack.core.delete_collection_namespaced_pod(NAMESPACE, label_selector=selector, grace_period_seconds=1)
    stacks.wait_until(
        lambda: not stack.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items, 90, "pods removed"
    )


def pod(stack, deployment, name, command, *, cpu, memory, **options):
    """Run a pod with MLflow's image; yield its IP address and its node's."""
    return running(stack, _body(deployment, name, command, cpu=cpu, memory=memory, **options))


@contextlib.contextmanager
def running(stack, body):
    """Run a pod until it is ready; yield its IP address and its node's."""
    name = body["metadata"]["name"]
    stack.core.create_namespaced_pod(NAMESPACE, body)

    def ready():
        found = stack.core.read_namespaced_pod(name, NAMESPACE)
        if found.status.phase in ("Failed", "Succeeded"):
            log = stack.kubectl("-n", NAMESPACE, "logs", name, "--tail=20", check=False)
            raise ServerError(f"the pod {name} ended:\n{log}")
        statuses = found.status.container_statuses or []
        return statuses and all(status.ready for status in statuses) and found.status

    try:
        status = stacks.wait_until(ready, 180, f"the pod {name} ready")
        yield status.pod_ip, status.host_ip
    finally:
        stack.core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=1)


@contextlib.contextmanager
def client_pod(stack, deployment, **options):
    """Run a pod for the clients; yield a function that runs a script of in_pod/, and the node's IP address."""
    name = f"{NAME}-client"
    command = ["sleep", str(POD_SECONDS)]
    with pod(stack, deployment, name, command, cpu="100m", memory="1Gi", **options) as (_own, node):

        def run(script, **asked):
            text = (SCRIPTS / script).read_text()
            command = ["kubectl", "--kubeconfig", stack.kubeconfig, "-n", NAMESPACE, "exec", "-i", name, "--"]
            # Input is passed on standard input, since it contains a token.
            done = subprocess.run(
                [*command, "python", "-c", text],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                timeout=POD_SECONDS,
                check=False,
            )
            if done.returncode != 0:
                raise ServerError(f"{script} failed: {done.stderr[-1500:]}")
            return json.loads(done.stdout.splitlines()[-1])

        yield run, node


def trust(deployment):
    """Return the variables by which clients trust the stack's CA, where MLflow's pods have its certificate."""
    mounts = deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    has_ca = any(CA_FILE.startswith(mount["mountPath"]) for mount in mounts)
    return dict.fromkeys(CA_VARIABLES, CA_FILE) if has_ca else {}


class Tracking:
    """MLflow's API as an administrator, and as a regular user."""

    def __init__(self, stack):
        self.url = stack.mlflow_url
        self._admin = requests.Session()
        self._admin.auth = (stacks.ADMIN, stack.environment["MLFLOW_TRACKING_PASSWORD"])
        self._stack = stack

    def ask(self, method, path, **options):
        answer = self._admin.request(method, self.url + path, timeout=300, **options)
        if answer.status_code != 200:
            raise ServerError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:300]}")
        return answer.json()

    @contextlib.contextmanager
    def token(self):
        """A token of demo-user, whose permissions are checked at every request; it is revoked at the end."""
        session = self._stack.login(stacks.USER)
        place = self.url + stacks.access_token.TOKENS
        try:
            yield stacks.access_token.mint(self.url, session, name=NAME, days=1)
        finally:
            for listed in session.get(place, timeout=60).json().get("tokens", []):
                if listed["name"] == NAME:
                    session.delete(f"{place}/{listed['id']}", timeout=60)

    @contextlib.contextmanager
    def experiment(self, token):
        """An experiment of demo-user, deleted permanently at the end with its runs and artifacts; yields its ID."""
        made = requests.post(
            f"{self.url}/api/2.0/mlflow/experiments/create",
            json={"name": f"{NAME}-{time.time_ns()}"},
            auth=(stacks.USER, token),
            timeout=60,
        )
        if made.status_code != 200:
            raise ServerError(f"no experiment was created: HTTP {made.status_code}: {made.text[:300]}")
        number = made.json()["experiment_id"]
        try:
            yield number
        finally:
            self.forget(number)

    def forget(self, experiment):
        """Delete one experiment permanently; `mlflow gc` would delete those of all users."""
        found = self.ask(
            "POST", "/api/2.0/mlflow/runs/search", json={"experiment_ids": [experiment], "max_results": 1000}
        )
        runs = [run["info"]["run_id"] for run in found.get("runs", [])]
        permission = f"/api/2.0/mlflow/permissions/users/{stacks.USER}/experiments/{experiment}"
        self.ask("DELETE", permission)
        self.ask("POST", "/api/2.0/mlflow/experiments/delete", json={"experiment_id": experiment})
        # A few at a time, since this blocks other calls.
        for start in range(0, len(runs), 4):
            self.ask("POST", "/oidc/trash/cleanup", params={"run_ids": ",".join(runs[start : start + 4])})
        self.ask("POST", "/oidc/trash/cleanup", params={"experiment_ids": experiment})


def _rate(result):
    return result["requests"] / result["seconds"]


def host(address):
    """Return an address as a URL has it."""
    return f"[{address}]" if ":" in address else address


def measure_log_batch(stack, seconds, rounds, connections, metrics):
    """Measure requests per second, with and without the stack around MLflow."""
    deployment = deployment_of(stack)
    tracking = Tracking(stack)
    replicas = deployment["spec"]["replicas"]
    workers = replicas * int(option(deployment, "workers") or 1)
    service = stack.core.read_namespaced_service("mlflow", NAMESPACE)
    node_port = service.spec.ports[0].node_port
    if not node_port:
        raise ServerError("MLflow's Service has no NodePort")
    bare = _bare(deployment, workers)
    remove_pods(stack)
    results = {"stack": [], "bare": []}
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        client_pod(stack, deployment) as (run, node),
        pod(
            *(stack, deployment, f"{NAME}-server", bare),
            cpu=f"{100 * workers}m",
            memory=f"{512 * (workers + 1)}Mi",
            probe={"path": "/health", "port": 5000},
            # It does not bound its requests: each may want a connection to the database, and fails after 30 s without.
            env={"MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(connections)},
        ) as (own, _node),
    ):
        load = {"experiment": experiment, "connections": connections, "seconds": seconds, "metrics": metrics}
        load["warm_up"] = 2
        login = {"user": stacks.USER, "token": token, "host": urllib.parse.urlsplit(stack.mlflow_url).netloc}
        for _unused in range(rounds):
            results["stack"].append(run("log_batch.py", url=f"http://{host(node)}:{node_port}", **login, **load))
            results["bare"].append(run("log_batch.py", url=f"http://{host(own)}:5000", host="localhost:5000", **load))
        outside = subprocess.run(
            [sys.executable, SCRIPTS / "log_batch.py"],
            input=json.dumps({"url": stack.mlflow_url.replace("localhost", "127.0.0.1"), **login, **load}),
            capture_output=True,
            text=True,
            check=False,
        )
        if outside.returncode != 0:
            raise ServerError(f"the client outside the cluster failed: {outside.stderr[-1000:]}")
        outside = json.loads(outside.stdout)
    part = Part(
        "Batches of metrics logged per second",
        f"Requests log-batch of {metrics} metrics each, over {connections} connections kept open, for {seconds} s; "
        f"{rounds} alternating rounds, medians. Here: demo-user with a token, through the node port, to {replicas} "
        f"replicas ({workers} worker processes in all). The peer: `mlflow server` of the same image in another pod, "
        f"with {workers} workers and the same database, through the pod's address, without login, Service and metrics, "
        "and with a database connection for each request. "
        "The client is a pod on the same node for both.",
    )
    rates = {name: [_rate(result) for result in found] for name, found in results.items()}
    middle = {name: statistics.median(values) for name, values in rates.items()}
    ratio = statistics.median(one / other for one, other in zip(rates["stack"], rates["bare"], strict=True))
    part.figures.append(
        Figure("requests per second", f"{middle['stack']:.0f}", f"{middle['bare']:.0f}", ratio, f">= {RATE_AIM:.2f}x")
    )
    for name in ("p50", "p95", "p99"):
        here, peer = (statistics.median(result[name] for result in results[side]) for side in ("stack", "bare"))
        aim = f"<= {LATENCY_AIM:.2f}x" if name == "p99" else ""
        part.figures.append(Figure(f"time of a request, {name}", f"{here:.0f} ms", f"{peer:.0f} ms", here / peer, aim))
    failed = {name: sum(result["failed"] for result in found) for name, found in results.items()}
    part.figures += [
        Figure("requests that failed", str(failed["stack"]), str(failed["bare"]), aim="0"),
        Figure("per second, from outside the cluster", f"{_rate(outside):.0f}"),
    ]
    for number, (here, peer) in enumerate(zip(rates["stack"], rates["bare"], strict=True), 1):
        part.details.append(f"round {number}: {here:.0f} and {peer:.0f} per second, {here / peer:.2f}x")
    errors = [result["error"] for found in results.values() for result in found if result["error"]]
    part.details += [f"failed: {error}" for error in errors[:2]]
    return part


def _transferred(run, deployment, **asked):
    """Run artifact.py in a client's pod, with a temporary object in the bucket of MLflow's artifacts."""
    bucket = option(deployment, "artifacts-destination").removeprefix("s3://").partition("/")[0]
    return run("artifact.py", bucket=bucket, key=f"{NAME}/data.bin", **asked)


def measure_artifact(stack, mebibytes):
    """Measure the upload and download of one large file."""
    deployment = deployment_of(stack)
    tracking = Tracking(stack)
    service = service_of(stack)
    remove_pods(stack)
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        client_pod(stack, deployment, env=trust(deployment)) as (run, _node),
    ):
        login = {"user": stacks.USER, "token": token}
        result = _transferred(
            run, deployment, url=f"http://{service}", experiment=experiment, mebibytes=mebibytes, **login
        )
    part = Part(
        f"An artifact of {mebibytes} MiB",
        "Here: an MLflow client stores and fetches it through MLflow, as demo-user. The peer: boto3's upload_file "
        "and download_file (8 MiB parts, ten at a time) at MinIO, with MLflow's key. Both from the same pod, on "
        "the node of the servers; the content is compared afterwards.",
    )
    is_direct = "true" in variable(deployment, "MLOPS_ARTIFACTS_DIRECT")
    aim = DIRECT_AIM if is_direct else TRANSFER_AIM
    for way, name in (("up", "stored"), ("down", "fetched")):
        here, peer = (mebibytes / result[f"{side}_{way}"] for side in ("mlflow", "direct"))
        figure = Figure(f"{name}, MiB per second", f"{here:.0f}", f"{peer:.0f}", here / peer, f">= {aim:.2f}x")
        part.figures.append(figure)
    part.details = [f"{name.replace('_', ' ')}: {value:.1f} s" for name, value in result.items()]
    return part


def measure_edge(stack, mebibytes, *load):
    """Measure the same requests and transfers through the edge, and past it at MLflow's Service."""
    seconds, rounds, connections, metrics = load
    public = urllib.parse.urlsplit(stack.mlflow_url)
    if public.scheme != "https":
        raise ServerError(f"MLflow's URL is {stack.mlflow_url}: an inventory with an edge by https is needed")
    deployment = deployment_of(stack)
    tracking = Tracking(stack)
    past = f"http://{service_of(stack)}"
    (node, *_others) = stack.core.list_node().items
    address = next(each.address for each in node.status.addresses if each.type == "InternalIP")
    remove_pods(stack)
    rates, transfers = {"edge": [], "past": []}, {"edge": [], "past": []}
    failed = dict.fromkeys(rates, 0)
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        client_pod(stack, deployment, hosts={public.hostname: address}, env=trust(deployment)) as (
            run,
            _node,
        ),
    ):
        load = {"experiment": experiment, "connections": connections, "seconds": seconds, "metrics": metrics}
        login = {"user": stacks.USER, "token": token}
        places = {"edge": stack.mlflow_url, "past": past}
        for _unused in range(rounds):
            for side, url in places.items():
                result = run("log_batch.py", url=url, host=public.netloc, warm_up=2, **login, **load)
                rates[side].append(_rate(result))
                failed[side] += result["failed"]
            for side, url in places.items():
                transfers[side].append(
                    _transferred(run, deployment, url=url, experiment=experiment, mebibytes=mebibytes, **login)
                )
    part = Part(
        "What the edge costs",
        "Through the edge by https, and past it at MLflow's Service by http, from the same pod, as demo-user. "
        f"Requests log-batch of {metrics} metrics each, over {connections} connections kept open, for {seconds} s, "
        f"and a file of {mebibytes} MiB; {rounds} alternating rounds, medians.",
    )
    figures = {"requests per second": rates}
    for way, name in (("up", "stored"), ("down", "fetched")):
        figures[f"{name}, MiB per second"] = {
            side: [mebibytes / each[f"mlflow_{way}"] for each in found] for side, found in transfers.items()
        }
    for name, values in figures.items():
        ratio = statistics.median(one / other for one, other in zip(values["edge"], values["past"], strict=True))
        here, peer = (f"{statistics.median(values[side]):.0f}" for side in ("edge", "past"))
        part.figures.append(Figure(name, here, peer, ratio, f">= {EDGE_AIM:.2f}x"))
    part.figures.append(Figure("requests that failed", str(failed["edge"]), str(failed["past"]), aim="0"))
    return part


# A distribution of our name without entry points, which is found first: MLflow then has its own class for S3.
_WITHOUT_OURS = """
info=/tmp/peer/mlops_mlflow_server-0.dist-info
mkdir -p $info
printf 'Metadata-Version: 2.1\nName: mlops-mlflow-server\nVersion: 0\n' > $info/METADATA
PYTHONPATH=/tmp/peer exec "$@"
"""


def _bare(deployment, workers):
    """Return the command of plain MLflow with the stack's artifacts."""
    return [
        *("sh", "-euc", _WITHOUT_OURS, "sh"),
        *("mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", str(workers)),  # noqa: S104  in a pod
        *("--artifacts-destination", option(deployment, "artifacts-destination"), "--allowed-hosts", "*"),
    ]


def measure_small_artifacts(stack, files=1000, size=10 << 10):
    """Measure the upload and download of many small files."""
    deployment = deployment_of(stack)
    tracking = Tracking(stack)
    workers = deployment["spec"]["replicas"] * int(option(deployment, "workers") or 1)
    service = service_of(stack)
    remove_pods(stack)
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        client_pod(stack, deployment) as (run, _node),
        pod(
            *(stack, deployment, f"{NAME}-server", _bare(deployment, workers)),
            cpu=f"{100 * workers}m",
            memory=f"{512 * (workers + 1)}Mi",
            probe={"path": "/health", "port": 5000},
        ) as (own, _node),
    ):
        load = {"experiment": experiment, "files": files, "bytes": size, "clients": 8}
        user = {"user": stacks.USER, "token": token}
        here = run("artifacts_many.py", url=f"http://{service}", host=service, **user, **load)
        peer = run("artifacts_many.py", url=f"http://{host(own)}:5000", host="localhost:5000", **load)
    part = Part(
        f"{files} artifacts of {size >> 10} KiB",
        "Over 8 connections. Here: demo-user with a token. The peer: `mlflow server` of the same image in another pod, "
        f"with {workers} workers and the same database and object store, without login.",
    )
    for way, name in (("up", "stored"), ("down", "fetched")):
        ratio = here[way] / peer[way]
        figure = Figure(f"{name}, seconds", f"{here[way]:.1f}", f"{peer[way]:.1f}", ratio, f"<= {SMALL_FILES_AIM:.2f}x")
        part.figures.append(figure)
    part.figures.append(Figure("artifacts that failed", str(here["failed"]), str(peer["failed"]), aim="0"))
    part.details += [f"failed: {result['error']}" for result in (here, peer) if result["error"]]
    return part


# The largest resident memory that each process of a pod has had, in KiB, as {process: KiB}.
_PEAKS = """
import json, pathlib
found = {}
for status in pathlib.Path("/proc").glob("[0-9]*/status"):
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if "VmHWM" in lines and "python" in lines["Name"]:
        found[status.parent.name] = int(lines["VmHWM"].split()[0])
print(json.dumps(found))
"""


def measure_many_clients(stack, clients=16, mebibytes=256):
    """Measure many large transfers at once, and the memory of the workers."""
    deployment = deployment_of(stack)
    tracking = Tracking(stack)
    service = service_of(stack)
    remove_pods(stack)
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        client_pod(stack, deployment) as (run, _node),
    ):
        result = run(
            "artifacts_many.py",
            **{"url": f"http://{service}", "host": service, "user": stacks.USER, "token": token},
            **{"experiment": experiment, "files": clients, "bytes": mebibytes << 20, "clients": clients},
        )
    peaks = {}
    for each in stack.pods("mlflow"):
        name = each.metadata.name
        found = json.loads(stack.kubectl("-n", NAMESPACE, "exec", name, "-c", "mlflow", "--", "python", "-c", _PEAKS))
        # The Python that asks is one of them, and small.
        peaks[name] = max(found.values()) >> 10
    part = Part(
        f"{clients} artifacts of {mebibytes} MiB at once",
        "Stored, then fetched, each over its own connection, as demo-user. Memory: the largest resident memory that a "
        "process of a pod has had since its start.",
    )
    for way, name in (("up", "stored"), ("down", "fetched")):
        part.figures.append(Figure(f"{name}, MiB per second", f"{clients * mebibytes / result[way]:.0f}"))
    part.figures += [
        Figure(f"memory of {name}", f"{peak} MiB", f"{MEMORY_AIM} MiB", peak / MEMORY_AIM, "<= 1.00x")
        for name, peak in sorted(peaks.items())
    ]
    part.figures.append(Figure("artifacts that failed", str(result["failed"]), aim="0"))
    part.details += [f"failed: {result['error']}"] if result["error"] else []
    return part


_RUNS = """
INSERT INTO runs (
    run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id)
  SELECT md5('{experiment}-' || i), 'run-' || i, 'UNKNOWN', 'bench', 'FINISHED',
    1700000000000 + i, 1700000000500 + i, 'active',
    'mlflow-artifacts:/{experiment}/' || md5('{experiment}-' || i) || '/artifacts', {experiment}
  FROM generate_series(1, {runs}) i;
INSERT INTO params (key, value, run_uuid)
  SELECT 'p' || k, i % 10, md5('{experiment}-' || i) FROM generate_series(1, {runs}) i, generate_series(1, 3) k;
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
  SELECT 'm' || k, (i * 7919) % 1000, 1700000000000, 1, false, md5('{experiment}-' || i)
  FROM generate_series(1, {runs}) i, generate_series(1, 3) k;
ANALYZE runs, params, latest_metrics;
"""
_NO_RUNS = """
DELETE FROM latest_metrics WHERE run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = {experiment});
DELETE FROM params WHERE run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = {experiment});
DELETE FROM runs WHERE experiment_id = {experiment};
"""


def measure_search(stack, most=100_000, rounds=15):
    """Measure a search of runs in an experiment with many, and in one with few."""
    tracking = Tracking(stack)
    database = "mlflow"
    seconds = {}
    with tracking.token() as token:
        for runs in (100, most):
            with tracking.experiment(token) as experiment:
                try:
                    stack.sql(database, _RUNS.format(experiment=int(experiment), runs=runs))
                    times = []
                    for _unused in range(rounds):
                        begun = time.monotonic()
                        answer = requests.post(
                            f"{tracking.url}/api/2.0/mlflow/runs/search",
                            json={"experiment_ids": [experiment], "max_results": 100},
                            auth=(stacks.USER, token),
                            timeout=120,
                        )
                        times.append(time.monotonic() - begun)
                        if answer.status_code != 200 or len(answer.json()["runs"]) != 100:
                            raise ServerError(f"runs/search: HTTP {answer.status_code}: {answer.text[:300]}")
                    seconds[runs] = statistics.median(times)
                finally:
                    stack.sql(database, _NO_RUNS.format(experiment=int(experiment)))
    part = Part(
        f"Search in an experiment with {most} runs",
        f"runs/search for the newest 100 runs as demo-user, median of {rounds} calls. The peer: the same in an "
        "experiment with 100 runs.",
    )
    here, peer = (seconds[runs] * 1000 for runs in (most, 100))
    part.figures.append(
        Figure("time of a search", f"{here:.0f} ms", f"{peer:.0f} ms", here / peer, f"<= {SEARCH_AIM:.2f}x")
    )
    return part
