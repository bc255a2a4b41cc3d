"""Metrics are collected, but not served on the public port; test_oidc.py asks a running server."""

import flask
import pytest

from lib import process
from mlops_mlflow_server import metrics

# As MLflow starts it (mlflow.server.prometheus_exporter), in a process that has not imported MLflow's server.
COLLECTS = """
import json, os, tempfile, flask
from mlops_mlflow_server import metrics
from prometheus_flask_exporter import PrometheusMetrics
original = PrometheusMetrics.register_endpoint
fits = metrics.without_view()
from mlflow.server.prometheus_exporter import activate_prometheus_exporter

def ask():
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
    application = flask.Flask("mlflow")
    activate_prometheus_exporter(application)
    application.route("/x")(lambda: "x")
    client = application.test_client()
    return {
        "closed": metrics.is_closed(application),
        "statuses": [client.get(path).status_code for path in ("/x", "/metrics", "/metrics/")],
        # A proxy's prefix, which the router takes off.
        "with prefix": client.get("/metrics", base_url="http://localhost/prefix").status_code,
        "counts": bool(application.before_request_funcs[None]),
    }

patched = ask()
import prometheus_client
for collector in list(prometheus_client.REGISTRY._collector_to_names):
    prometheus_client.REGISTRY.unregister(collector)
PrometheusMetrics.register_endpoint = original
print(json.dumps({"fits": fits, "too late": metrics.without_view(), "patched": patched, "unpatched": ask()}))
"""


def test_exporter_collects_without_a_view():
    found = process.result(COLLECTS)
    assert found["fits"]
    assert not found["too late"], "MLflow's server was imported before"
    assert found["patched"] == {"closed": True, "statuses": [200, 404, 404], "with prefix": 404, "counts": True}
    assert (found["unpatched"]["closed"], found["unpatched"]["statuses"][1]) == (False, 200)


@pytest.mark.parametrize(
    ("paths", "closed"),
    [
        (["/", "/api/3.0/mlflow/traces/metrics", "/api/2.0/mlflow/metrics/get-history"], True),
        (["/health", "/metrics"], False),
        (["/health", "/metrics/"], False),
    ],
)
def test_which_paths_are_metrics(paths, closed):
    application = flask.Flask("test", static_folder=None)
    for number, path in enumerate(paths):
        application.add_url_rule(path, str(number), lambda: "")
    assert metrics.is_closed(application) is closed
