# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `none`: MLflow's own application, for a server that is reachable only within its cluster."""

import logging

from mlflow.server import app as flask_app
from mlflow.server.fastapi_app import _EfficientWSGIMiddleware, app

from mlops_mlflow_server import artifacts, lanes, wsgi

_logger = logging.getLogger("mlflow.mlops")

# MLflow itself serves only /health.
PROBES = frozenset({"/health/live", "/health/startup"})


def application():
    """Return the ASGI application."""
    if not (wsgi.install() and artifacts.install(flask_app)):
        raise RuntimeError("This version of MLflow serves artifacts differently: they would be copied to disk")
    if not lanes.install(app, _EfficientWSGIMiddleware):
        _logger.warning("This version of MLflow mounts its API differently: artifact calls share all threads")
    return app


def databases() -> dict[str, str]:
    """Return the URIs of additional databases: none."""
    return {}


def checks() -> dict:
    """Return additional readiness checks: none."""
    return {}
