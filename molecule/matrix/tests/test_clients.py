"""What clients do unchanged: MLflow's own of two major versions, REST calls, and an OpenTelemetry exporter.

What fails on a bare `mlflow server` of the tested version is expected to fail here.
"""

import json
import pathlib
import secrets
from urllib.parse import quote

import pytest
import quickstart
import requests

from tests.lib import matrix_callers
from tests.lib import stack as stacks

CLIENTS = pathlib.Path(__file__).parent / "clients"
VERSIONS = {"3.17": quickstart.REQUIREMENTS, "2.22": CLIENTS / "mlflow-2.22.txt"}
TIMEOUT = 60

# A client of MLflow 2 stores a trace without its spans, which the artifact that it expects would hold.
FAILS_ON_BARE_MLFLOW = {"3.17": set(), "2.22": {"traces"}}


@pytest.fixture(scope="module")
def account(request, stack, plugin, mark):
    """The name of an ordinary user, and a password or access token of theirs."""
    if plugin == "oidc":
        yield stacks.USER, request.getfixturevalue("user_token")
        return
    name, password = f"clients-{mark}", stacks.Hidden(secrets.token_urlsafe(24))
    _name, admin = matrix_callers.admin_client(stack)
    admin.made("POST", "/api/2.0/mlflow/users/create", {"username": name, "password": password})
    yield name, password
    admin.made("DELETE", "/api/2.0/mlflow/users/delete", {"username": name})


@pytest.fixture
def experiment(stack, account):
    """A function that calls MLflow's API as the user, and the ID of an experiment, which is deleted at the end."""

    def call(method, path, **options):
        done = requests.request(method, f"{stack.mlflow_url}/{path}", auth=account, timeout=TIMEOUT, **options)
        assert done.status_code == 200, f"{method} {path}: {done.status_code} {done.text}"
        return done

    name = f"clients-{secrets.token_hex(4)}"
    found = call("POST", "api/2.0/mlflow/experiments/create", json={"name": name}).json()["experiment_id"]
    yield call, found
    call("POST", "api/2.0/mlflow/experiments/delete", json={"experiment_id": found})


@pytest.mark.parametrize("version", VERSIONS)
def test_mlflow_client(stack, account, version, say):
    name = f"clients-{version}-{secrets.token_hex(4)}"
    done = stack.client((CLIENTS / "operations.py").read_text(), *account, name, requirements=VERSIONS[version])
    found = json.loads(done.stdout.splitlines()[-1])
    say(f"client {found['version']}: {found['outcomes']}")
    assert found["version"].startswith(f"{version}.")
    failed = {operation for operation, outcome in found["outcomes"].items() if outcome != "ok"}
    assert failed == FAILS_ON_BARE_MLFLOW[version], found["outcomes"]


def test_rest(experiment):
    """Calls without a library of MLflow: a run with a metric, and an artifact that comes back."""
    call, identifier = experiment
    sent = {"experiment_id": identifier, "start_time": 1_767_225_600_000}
    run = call("POST", "api/2.0/mlflow/runs/create", json=sent).json()["run"]["info"]["run_id"]
    metric = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1_767_225_600_000, "step": 3}
    call("POST", "api/2.0/mlflow/runs/log-metric", json=metric)
    path = f"api/2.0/mlflow-artifacts/artifacts/{identifier}/{run}/artifacts/notes.txt"
    call("PUT", path, data=b"by hand")
    assert call("GET", path).content == b"by hand"
    data = call("GET", "api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["data"]
    assert [(each["key"], each["value"], each["step"]) for each in data["metrics"]] == [("loss", 0.5, 3)]


def test_opentelemetry_exporter(stack, account, experiment):
    """An application without MLflow exports its spans by OTLP over HTTP, as OpenTelemetry's own variables configure."""
    call, identifier = experiment
    basic = requests.Request("GET", stack.mlflow_url, auth=account).prepare().headers
    variables = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{stack.mlflow_url}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": ",".join(
            f"{name}={quote(value)}" for name, value in {**basic, "x-mlflow-experiment-id": identifier}.items()
        ),
    }
    requirements = CLIENTS / "opentelemetry.txt"
    stack.client((CLIENTS / "exporter.py").read_text(), *account, requirements=requirements, environment=variables)
    found = call("POST", "api/3.0/mlflow/traces/search", json={"locations": locations(identifier)}).json()["traces"]
    assert len(found) == 1, found
    spans = call("GET", "api/3.0/mlflow/traces/batchGet", params={"trace_ids": found[0]["trace_id"]}).json()
    assert {each["name"] for each in spans["traces"][0]["spans"]} == {"parent", "child"}


def locations(experiment_id):
    """Return where MLflow's API searches for traces: in one experiment."""
    return [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}]
