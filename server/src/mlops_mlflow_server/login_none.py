# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `none`: MLflow's own application, for a server that is reachable only within its cluster."""

from mlflow.server.fastapi_app import _EfficientWSGIMiddleware, app

from mlops_mlflow_server import lanes, parts
from mlops_mlflow_server.parts import MLFLOW, Part

# MLflow itself serves only /health.
PROBES = frozenset({"/health/live", "/health/startup"})

PARTS = (
    Part(
        "lanes",
        MLFLOW,
        lambda: lanes.install(app, _EfficientWSGIMiddleware),
        "artifact calls share all threads",
        required=False,
    ),
)


def application():
    """Return the ASGI application."""
    parts.start(PARTS)
    return app


def databases() -> dict[str, str]:
    """Return the URIs of additional databases: none."""
    return {}


def checks() -> dict:
    """Return additional readiness checks: none."""
    return {}
