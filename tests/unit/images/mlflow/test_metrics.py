"""Metrics, which MLflow counts and shows nobody where people and programs come in."""

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
    """The exporter's classes, as much of them as there is to the view: what they register is in `seen`."""
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


def test_nothing_is_put_where_metrics_would_be(metrics, exporter):
    metrics.without_view()
    assert exporter.PrometheusMetrics.register_endpoint(object(), "/metrics") is None
    assert getattr(exporter, "seen", []) == []


def test_the_real_exporter_counts_and_shows_nothing(metrics, exporter, monkeypatch, tmp_path):
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


def test_it_must_come_before_mlflow(metrics, exporter, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.server", types.ModuleType("mlflow.server"))
    with pytest.raises(RuntimeError, match="was imported before"):
        metrics.without_view()


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
def test_a_server_that_would_show_them_does_not_start(metrics, path):
    with pytest.raises(RuntimeError, match="anybody would see /metrics"):
        metrics.check_closed(flask_with("/health", path))


def test_other_paths_that_are_called_so_are_no_matter(metrics):
    metrics.check_closed(flask_with("/", "/api/3.0/mlflow/traces/metrics", "/api/2.0/mlflow/metrics/get-history"))
