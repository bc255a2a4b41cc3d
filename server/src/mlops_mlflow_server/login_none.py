# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `none`: MLflow's own application, for a server that is reachable only within its cluster."""

from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.server import app as flask_app
from mlflow.server.fastapi_app import _EfficientWSGIMiddleware, app
from starlette.types import ASGIApp, Scope

from mlops_mlflow_server import artifacts, assistant, compressed, guards, hosts, lanes, parts, straight
from mlops_mlflow_server.callers import Anyone
from mlops_mlflow_server.parts import MLFLOW, Part

# MLflow itself serves only /health.
PROBES = frozenset({"/health/live", "/health/startup"})
# MLflow's own pages.
PUBLIC = ("/health", "/version", "/static-files")


def _shorten() -> bool:
    if MLFLOW_ENABLE_WORKSPACES.get():
        return True
    return straight.install(app, flask_app, hosts.CHECKS, lambda _scope: True)


PARTS = (
    *artifacts.PARTS,
    Part("compressed traces", MLFLOW, compressed.install, compressed.CONSEQUENCE, required=True),
    Part("assistant", MLFLOW, lambda: assistant.install(app), assistant.CONSEQUENCE, required=True),
    Part("hosts", MLFLOW, lambda: hosts.install(app), hosts.CONSEQUENCE, required=True),
    Part("lanes", MLFLOW, lambda: lanes.install(app, _EfficientWSGIMiddleware), lanes.CONSEQUENCE, required=True),
    Part("short way", MLFLOW, _shorten, "every call takes a few milliseconds longer", required=False),
    *guards.of_store(app, Anyone()),
)


def application() -> ASGIApp:
    """Return the ASGI application.

    Raises:
        MisfitError: a required part does not fit.
    """
    parts.start(PARTS)
    return app


def account(_scope: Scope) -> str | None:
    """Return None: there are no accounts."""
    return None


def takes_no_body(path: str) -> bool:
    """Return whether a path needs no login and takes no body."""
    return path.startswith(PUBLIC)


def is_login(_path: str) -> bool:
    """Return whether a path is that of a login page: none is."""
    return False


def databases() -> dict[str, str]:
    """Return the URIs of additional databases: none."""
    return {}


def checks() -> dict:
    """Return additional readiness checks: none."""
    return {}
