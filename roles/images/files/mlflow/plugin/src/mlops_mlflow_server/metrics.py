"""Prometheus' metrics on a port of their own, apart from the one that people and programs reach.

They name routes and count calls, and ask nobody who they are. MLflow's exporter would show them at `/metrics` of the
application itself. A filter of paths would see that path as a client writes it, and not as a proxy's prefix leaves it
to the router, so the view is not there at all.
"""

import os
import sys

PATH = "/metrics"


def serve(port: int, directory: str) -> None:
    """Serve what all workers of this server have written to `directory`, in a thread, until the process ends."""
    # Before prometheus_client is imported: it reads this once.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    start_http_server(port, registry=registry)


def without_view() -> None:
    """Let MLflow count calls and show nobody; to be called before anything imports MLflow's server."""
    if "mlflow.server" in sys.modules:
        raise RuntimeError(f"MLflow's server was imported before its view of {PATH} could be kept out")
    from prometheus_flask_exporter import PrometheusMetrics  # noqa: PLC0415

    PrometheusMetrics.register_endpoint = lambda *_, **__: None


def check_closed(flask) -> None:
    """Check that MLflow's application shows no metrics.

    Raises:
        RuntimeError: it does, by means that `without_view` does not know.
    """
    if any(rule.rule.rstrip("/") == PATH for rule in flask.url_map.iter_rules()):
        raise RuntimeError(f"This MLflow shows its metrics in another way: anybody would see {PATH}")
