# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `none`: MLflow's own application, for a server that is reachable only within its cluster."""

from mlflow.server.fastapi_app import _EfficientWSGIMiddleware, app

from mlops_mlflow_server import assistant, hosts, lanes

# MLflow itself serves only /health.
PROBES = frozenset({"/health/live", "/health/startup"})
# MLflow's own pages.
PUBLIC = ("/health", "/version", "/static-files")


def application():
    """Return the ASGI application.

    Raises:
        RuntimeError: this version lacks what bounds or protects it.
    """
    if not assistant.install(app):
        raise RuntimeError("This version of MLflow includes its assistant differently: it would run commands")
    if not hosts.install(app):
        raise RuntimeError("This version of MLflow orders its middleware differently: any Host would be accepted")
    if not lanes.install(app, _EfficientWSGIMiddleware):
        raise RuntimeError("This version of MLflow mounts its API differently: idle clients would take all threads")
    return app


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
