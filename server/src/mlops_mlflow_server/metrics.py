# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve Prometheus metrics on a separate port, which users and programs do not reach.

Metrics list routes and counts without authentication. MLflow's exporter would serve them at `/metrics` of the
application. A path filter would compare the path before a proxy's prefix is removed and could be bypassed, so the view
is not registered at all.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

PATH = "/metrics"


def serve(port: int, directory: str) -> None:
    """Serve the metrics that all workers write to `directory`, in a thread, until the process ends."""
    # prometheus_client reads this once, at its import.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  (see above)
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  (the same)

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    start_http_server(port, registry=registry)


def without_view() -> bool:
    """Let MLflow collect metrics without serving them; return whether it is early enough and this version can do so.

    MLflow's server must not have been imported yet.
    """
    if "mlflow.server" in sys.modules:
        return False
    from prometheus_flask_exporter import PrometheusMetrics  # noqa: PLC0415  (after this check)

    if not hasattr(PrometheusMetrics, "register_endpoint"):
        return False
    PrometheusMetrics.register_endpoint = lambda *_unused, **__: None
    return True


def is_closed(flask: "Flask") -> bool:
    """Return whether MLflow's application does not serve metrics in a way that `without_view` does not prevent."""
    return not any(rule.rule.rstrip("/") == PATH for rule in flask.url_map.iter_rules())
