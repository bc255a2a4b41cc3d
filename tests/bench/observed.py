"""What metrics, logs, the audit log and spans of MLflow's server cost."""

import copy
import statistics
import time

from tests.bench import server
from tests.bench.report import Figure, Part

AIM = 0.95
PORT = 4318
RATIO = 0.1
OFF = {"MLOPS_LOG_FORMAT": "text", "MLOPS_AUDIT_LOG": "off", "MLOPS_OTLP_ENDPOINT": ""}
METRICS = ("--expose-prometheus=", "--metrics-port=")
SCRAPES = 20
# The kubelet measures memory every 10 s or so.
KUBELET_SECONDS = 20
LINES, SPANS = "mlflow_audit_lines_total", "mlflow_server_spans_total"


def like(deployment, name, variables, *, metrics):
    """Return a pod like those of MLflow's Deployment, which its Service does not lead to.

    Args:
        deployment: MLflow's.
        name: of the pod.
        variables: of its environment, which take the place of the Deployment's.
        metrics: whether it serves metrics.
    """
    spec = copy.deepcopy(deployment["spec"]["template"]["spec"])
    # The migration has ended, or there would be no Deployment to compare with.
    spec.pop("initContainers", None)
    (container,) = spec["containers"]
    container["env"] = [each for each in container["env"] if each["name"] not in variables]
    container["env"] += [{"name": key, "value": value} for key, value in variables.items()]
    if not metrics:
        container["args"] = [each for each in container["args"] if not each.startswith(METRICS)]
    spec |= {"restartPolicy": "Never", "activeDeadlineSeconds": server.POD_SECONDS}
    metadata = {"name": name, "labels": {server.LABEL: server.NAME}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def measure(stack, seconds, rounds, connections, metrics):
    """Measure the same requests at a pod that tells everything, and at one that tells nothing."""
    deployment = server.deployment_of(stack)
    tracking = server.Tracking(stack)
    names = {side: f"{server.NAME}-{side}" for side in ("all", "nothing")}
    results = {side: [] for side in names}
    server.remove_pods(stack)
    command = ["python", "-c", (server.SCRIPTS / "collector.py").read_text(), str(PORT)]
    with (
        tracking.token() as token,
        tracking.experiment(token) as experiment,
        server.client_pod(stack, deployment) as (run, _node),
        server.pod(
            *(stack, deployment, f"{server.NAME}-collector", command),
            cpu="50m",
            memory="256Mi",
            probe={"path": "/", "port": PORT},
        ) as (own, _node),
    ):
        collector = f"http://{server.host(own)}:{PORT}"
        told = {"MLOPS_LOG_FORMAT": "json", "MLOPS_AUDIT_LOG": "stdout"}
        told |= {"MLOPS_OTLP_ENDPOINT": collector, "MLOPS_OTLP_SAMPLE_RATIO": str(RATIO)}
        with (
            server.running(stack, like(deployment, names["all"], told, metrics=True)) as (tells, _node),
            server.running(stack, like(deployment, names["nothing"], OFF, metrics=False)) as (silent, _node),
        ):
            places = {"all": f"{server.host(tells)}:5000", "nothing": f"{server.host(silent)}:5000"}
            load = {"experiment": experiment, "connections": connections, "seconds": seconds, "metrics": metrics}
            load |= {"user": server.stacks.USER, "token": token, "warm_up": 2}
            for number in range(rounds):
                # Who begins, changes: the database has more in it for the second.
                for side in sorted(places, reverse=number % 2 == 1):
                    results[side].append(run("log_batch.py", url=f"http://{places[side]}", host=places[side], **load))
            time.sleep(KUBELET_SECONDS)
            used = stack.usage()
            scrape = run(
                "scrape.py",
                url=f"http://{server.host(tells)}:5001/metrics",
                times=SCRAPES,
                sums=[LINES, SPANS],
                collector=collector,
            )
    memory = {side: used[f"{server.NAMESPACE}/{name}"].memory for side, name in names.items()}
    return _part(results, memory, scrape, load)


def _part(results, memory, scrape, load):
    rates = {side: [each["requests"] / each["seconds"] for each in found] for side, found in results.items()}
    ratio = statistics.median(one / other for one, other in zip(rates["all"], rates["nothing"], strict=True))
    rounds = len(rates["all"])
    part = Part(
        "What metrics, logs, the audit log and spans cost",
        f"Requests log-batch of {load['metrics']} metrics each, over {load['connections']} connections kept open, for "
        f"{load['seconds']} s; {rounds} alternating rounds, medians. Two pods like those of MLflow's Deployment, with "
        f"the same database, as demo-user with a token. Here: metrics, the log as JSON, the audit log to stdout, and "
        f"spans of {RATIO:.0%} of all calls to a collector in a pod of the node. The peer: the log as text, and "
        "nothing of these; what is counted stays in memory.",
    )
    here, peer = (statistics.median(rates[side]) for side in ("all", "nothing"))
    part.figures.append(Figure("requests per second", f"{here:.0f}", f"{peer:.0f}", ratio, f">= {AIM:.2f}x"))
    for name in ("p50", "p99"):
        here, peer = (statistics.median(each[name] for each in results[side]) for side in ("all", "nothing"))
        part.figures.append(Figure(f"time of a request, {name}", f"{here:.0f} ms", f"{peer:.0f} ms", here / peer))
    here, peer = (memory[side] for side in ("all", "nothing"))
    failed = {side: sum(each["failed"] for each in found) for side, found in results.items()}
    part.figures += [
        Figure("memory of the pod", f"{here:.0f} MiB", f"{peer:.0f} MiB", here / peer),
        Figure("size of a scrape", f"{scrape['bytes'] / 1024:.0f} KiB"),
        Figure("time of a scrape", f"{scrape['seconds'] * 1000:.0f} ms"),
        Figure("requests that failed", str(failed["all"]), str(failed["nothing"]), aim="0"),
        # Without these, nothing was measured.
        Figure("lines of the audit log", f"{scrape['sums'][LINES]:.0f}"),
        Figure("spans that arrived", str(scrape["spans"])),
        Figure("spans that were dropped", f"{scrape['sums'][SPANS] - scrape['spans']:.0f}", aim="0"),
    ]
    requests = sum(each["requests"] for each in results["all"])
    if scrape["sums"][LINES] < requests or not scrape["spans"]:
        raise server.ServerError(f"of {requests} requests not all was told: {scrape}")
    for number, (one, other) in enumerate(zip(rates["all"], rates["nothing"], strict=True), 1):
        part.details.append(f"round {number}: {one:.0f} and {other:.0f} per second, {one / other:.2f}x")
    errors = [each["error"] for found in results.values() for each in found if each["error"]]
    part.details += [f"failed: {error}" for error in errors[:2]]
    return part
