"""Metrics are collected, but not served on the public port."""

import importlib
import sys
import types

import pytest


@pytest.fixture
def metrics(load, monkeypatch):
    for name in [each for each in sys.modules if each.startswith("mlflow.server")]:
        monkeypatch.delitem(sys.modules, name)
    return load("metrics")


def flask_with(*paths):
    rules = [types.SimpleNamespace(rule=path) for path in paths]
    return types.SimpleNamespace(url_map=types.SimpleNamespace(iter_rules=lambda: iter(rules)))


@pytest.fixture
def exporter(monkeypatch):
    """A stand-in for the exporter; views that it registers are in `seen`."""
    try:
        module = importlib.import_module("prometheus_flask_exporter")
    except ImportError:
        module = types.ModuleType("prometheus_flask_exporter")
        module.seen = []

        class PrometheusMetrics:
            def register_endpoint(self, path, app=None):
                module.seen.append(path)

        module.PrometheusMetrics = PrometheusMetrics
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module.PrometheusMetrics, "register_endpoint", module.PrometheusMetrics.register_endpoint)
    return module


def test_no_metrics_view_is_registered(metrics, exporter):
    metrics.without_view()
    assert exporter.PrometheusMetrics.register_endpoint(object(), "/metrics") is None
    assert getattr(exporter, "seen", []) == []


def test_real_exporter_collects_without_a_view(metrics, exporter, monkeypatch, tmp_path):
    """As MLflow starts it (mlflow.server.prometheus_exporter)."""
    flask = pytest.importorskip("flask")
    multiprocess = pytest.importorskip("prometheus_flask_exporter.multiprocess")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics.without_view()
    application = flask.Flask("mlflow")
    multiprocess.GunicornInternalPrometheusMetrics(application, export_defaults=True, defaults_prefix="mlflow")
    application.route("/x")(lambda: "x")
    metrics.check_closed(application)
    client = application.test_client()
    assert [client.get(path).status_code for path in ("/x", "/metrics", "/metrics/")] == [200, 404, 404]
    # A proxy's prefix, which the router takes off.
    assert client.get("/metrics", base_url="http://localhost/prefix").status_code == 404
    assert client.options("/metrics").status_code == 404
    assert application.before_request_funcs[None], "nothing is counted"


def test_must_run_before_mlflow_is_imported(metrics, exporter, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.server", types.ModuleType("mlflow.server"))
    with pytest.raises(RuntimeError, match="was imported before"):
        metrics.without_view()


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
def test_server_with_a_metrics_view_does_not_start(metrics, path):
    with pytest.raises(RuntimeError, match="/metrics would be public"):
        metrics.check_closed(flask_with("/health", path))


def test_similar_paths_are_allowed(metrics):
    metrics.check_closed(flask_with("/", "/api/3.0/mlflow/traces/metrics", "/api/2.0/mlflow/metrics/get-history"))
