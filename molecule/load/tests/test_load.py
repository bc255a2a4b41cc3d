"""An address of a LoadBalancer, and an autoscaler that follows the work."""

import json
import os
import subprocess
import sys
import urllib.parse

import pytest

from tests.lib import REPOSITORY
from tests.lib import stack as stacks
from tests.lib.clients import RUN

LOG_BATCH = REPOSITORY / "tests" / "bench" / "in_pod" / "log_batch.py"
CONNECTIONS, SECONDS = 8, 120


def test_clients_come_by_the_address_of_the_service(stack, admin_token, mark):
    assert stack.address != "127.0.0.1"
    assert urllib.parse.urlsplit(stack.mlflow_url).port is None
    stack.client(RUN, stacks.ADMIN, admin_token, f"address-{mark}")
    # MLflow and Keycloak have none of their own.
    types = {name: stack.core.read_namespaced_service(name, name).spec.type for name in ("mlflow", "keycloak")}
    assert types == {"mlflow": "ClusterIP", "keycloak": "ClusterIP"}


def replicas(stack):
    """The number of pods that the Deployment asks for, and that are ready."""
    found = stack.apps.read_namespaced_deployment("mlflow", "mlflow")
    return found.spec.replicas, found.status.ready_replicas or 0


def autoscaler(stack):
    return json.loads(stack.kubectl("-n", "mlflow", "get", "horizontalpodautoscaler", "mlflow", "-o", "json"))


@pytest.fixture
def load(stack, admin_token, mark):
    """A client that logs metrics over several connections, as a process that prints what came of it."""
    script = "import mlflow, sys; print(mlflow.create_experiment(sys.argv[1]))"
    experiment = stack.client(script, stacks.ADMIN, admin_token, f"load-{mark}").stdout.split()[-1]
    asked = {"url": stack.mlflow_url, "host": urllib.parse.urlsplit(stack.mlflow_url).netloc, "experiment": experiment}
    asked |= {"user": stacks.ADMIN, "token": admin_token, "connections": CONNECTIONS, "metrics": 10}
    with subprocess.Popen(
        [sys.executable, str(LOG_BATCH)],
        env={**os.environ, "SSL_CERT_FILE": str(stack.ca)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdin.write(json.dumps(asked | {"seconds": SECONDS, "warm_up": 0}))
        process.stdin.close()
        yield process
        process.kill()


def test_pods_follow_the_work(stack, request):
    stacks.wait_until(lambda: autoscaler(stack)["status"].get("currentMetrics"), 180, "pods measured")
    stacks.wait_until(lambda: replicas(stack) == (1, 1), 180, "one idle pod")
    process = request.getfixturevalue("load")
    stacks.wait_until(lambda: replicas(stack)[1] > 1, SECONDS, "more pods ready under load", interval=2)
    # A run leaves the number to the autoscaler.
    before = replicas(stack)[0]
    again = stack.playbook()
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert replicas(stack)[0] >= before
    result = json.loads(process.stdout.read().splitlines()[-1])
    print(f"{result['requests']} requests of {CONNECTIONS} connections in {result['seconds']:.0f} s, {before} pods")
    assert (result["failed"], result["error"]) == (0, "")
    stacks.wait_until(lambda: replicas(stack) == (1, 1), 300, "one pod again", interval=2)
