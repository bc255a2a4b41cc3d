"""What reaches what, from six places of the cluster, with the policies and without them."""

import json

import pytest
import requests

from tests.lib import stack as stacks
from tests.lib import walls
from tests.lib.walls import Place, Target

PLACES = {
    "stranger": Place("stranger", "deployment/caller", "caller"),
    "client": Place("mlflow-team", "deployment/caller", "caller"),
    "mlflow": Place("mlflow", "deployment/mlflow", "mlflow"),
    "keycloak": Place("keycloak", "statefulset/keycloak", "keycloak"),
    "postgres": Place("postgres", "statefulset/postgres", "postgres"),
    "minio": Place("minio", "statefulset/minio", "minio"),
}
# Ports of pods, which have Services or not.
PORTS = {
    "postgres": ("postgres", 5432),
    "minio-s3": ("minio", 9000),
    "minio-console": ("minio", 9001),
    "keycloak": ("keycloak", 8080),
    "keycloak-internal": ("keycloak", 8443),
    "keycloak-management": ("keycloak", 9000),
    "keycloak-cluster": ("keycloak", 7800),
    "mlflow": ("mlflow", 5000),
    "mlflow-https": ("mlflow", 5443),
    "mlflow-metrics": ("mlflow", 5001),
    "sealed-secrets": ("sealed_secrets", 8080),
}
ELSEWHERE = {
    "metadata": Target("169.254.169.254", 80),
    "outside": Target("198.51.100.1", 443),
}
# All else is refused. What is no component of the stack may go where it likes, but not to the stack.
ALLOWED = {
    "stranger": {"api-server", "dns", "metadata", "outside"},
    "client": {"api-server", "dns", "metadata", "outside", "mlflow", "mlflow-https", "keycloak"},
    # Not the API server, but for the flow of mlflow_kubernetes_namespaces, which the tests' inventory has.
    "mlflow": {"dns", "postgres", "minio-s3", "keycloak-internal", "api-server"},
    "keycloak": {"dns", "postgres"},
    "postgres": {"dns"},
    "minio": {"dns"},
}


@pytest.fixture(scope="module")
def targets(stack):
    """What is called, by the addresses of Services and pods, since the names would take DNS."""

    def service(namespace, name):
        return stack.core.read_namespaced_service(name, namespace).spec.cluster_ip

    found = {name: Target(stack.pods(component)[-1].status.pod_ip, port) for name, (component, port) in PORTS.items()}
    found |= {
        "api-server": Target(service("default", "kubernetes"), 443),
        "dns": Target(service("kube-system", "kube-dns"), 53),
    }
    return found | ELSEWHERE


def foreign(name, targets):
    """The targets that are not in the pods of a place themselves: these have no policy between them."""
    return {target: where for target, where in targets.items() if PORTS.get(target, ("",))[0] != name}


def reached(results):
    """The targets that a connection came to, whether or not something listens there."""
    return {target for target, result in results.items() if result != walls.REFUSED}


@pytest.fixture(scope="module")
def results(stack, targets):
    """What came of all connections, by place and target; printed, and kept as a table."""
    found = {name: walls.tried(stack, place, foreign(name, targets)) for name, place in PLACES.items()}
    table = walls.table({name: {target: found[name].get(target, "itself") for target in targets} for name in PLACES})
    (stack.directory / "walls.md").write_text(table)
    print(f"\n{table}")
    return found


@pytest.mark.parametrize("name", PLACES)
def test_reached_is_what_has_a_flow(results, name):
    assert reached(results[name]) == ALLOWED[name]


def test_the_other_replica_is_as_far_as_a_stranger(stack):
    """A compromised pod of MLflow reaches neither the other replica nor its metrics."""
    first, second = stack.pods("mlflow")[:2]
    place = Place("mlflow", f"pod/{first.metadata.name}", "mlflow")
    ports = {f"port-{port}": Target(second.status.pod_ip, port) for port in (5000, 5001, 5443)}
    assert reached(walls.tried(stack, place, ports)) == set()


def test_node_port_is_open_to_addresses_outside(stack):
    for url in (f"{stack.mlflow_url}/health", f"{stack.keycloak_url}/realms/mlflow"):
        assert requests.get(url, timeout=30).status_code == 200, url


def test_a_flow_that_is_gone_is_closed_and_comes_back(stack, targets):
    """The API server is closed to MLflow but for its flow."""
    server = {"api-server": targets["api-server"]}
    assert reached(walls.tried(stack, PLACES["mlflow"], server))
    policy = ("-n", "mlflow", "networkpolicy", "mlflow-to-api-server")
    kept = json.loads(stack.kubectl("get", *policy, "-o", "json"))
    kept["metadata"] = {key: kept["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    stack.kubectl("delete", *policy)
    try:
        stacks.wait_until(lambda: not reached(walls.tried(stack, PLACES["mlflow"], server)), 30, "a closed API server")
    finally:
        stack.kubectl("apply", "--server-side", "--field-manager=mlops.mlflow", "-f", "-", text=json.dumps(kept))
    stacks.wait_until(lambda: reached(walls.tried(stack, PLACES["mlflow"], server)), 30, "an open API server")


def pods(stack):
    """Each pod of the stack that serves, with how often its containers were started again."""
    return {
        pod.metadata.uid: [each.restart_count for each in pod.status.container_statuses]
        for component in stacks.NAMESPACES
        for pod in stack.pods(component)
    }


def test_policies_are_switched_off_and_on(stack, targets):
    """What is refused with them was open before, and on a live stack they come without a restart of a pod."""
    stranger, component = PLACES["stranger"], foreign("stranger", targets)
    before = pods(stack)
    assert reached(walls.tried(stack, stranger, component)) == ALLOWED["stranger"]

    def names():
        return stack.kubectl("get", "networkpolicies", "-A", "-o", "name").split()

    there = names()
    off = ("-e", "platform_network_policies=false")
    done = stack.playbook(*off)
    assert done.code == 0, done.output
    assert names() == []
    assert reached(walls.tried(stack, stranger, component)) == set(targets)
    again = stack.playbook(*off)
    assert again.code == 0, again.output
    assert again.count("changed") == 0, again.output

    done = stack.playbook()
    assert done.code == 0, done.output
    assert names() == there
    stacks.wait_until(
        lambda: reached(walls.tried(stack, stranger, component)) == ALLOWED["stranger"],
        30,
        "what is refused to a stranger",
    )
    again = stack.playbook()
    assert again.code == 0, again.output
    assert again.count("changed") == 0, again.output
    assert pods(stack) == before


def test_programs_log_metrics_and_artifacts(stack, admin_token, mark):
    """By a client outside of the cluster, with artifacts through MLflow."""
    script = """
        import sys, tempfile, pathlib, mlflow
        mlflow.set_experiment(sys.argv[1])
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", 0.5)
            path = pathlib.Path(tempfile.mkdtemp()) / "artifact.bin"
            path.write_bytes(bytes(20 * 2**20))
            mlflow.log_artifact(str(path))
        back = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="artifact.bin")
        print(mlflow.get_run(run.info.run_id).data.metrics["loss"], pathlib.Path(back).stat().st_size)
    """
    done = stack.client(script, stacks.ADMIN, admin_token, f"walls-{mark}")
    assert done.stdout.split()[-2:] == ["0.5", str(20 * 2**20)]
