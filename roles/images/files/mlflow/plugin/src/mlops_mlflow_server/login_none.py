"""No login: MLflow's own application, for a server that only its own cluster can reach."""

import logging

from mlflow.server.fastapi_app import _EfficientWSGIMiddleware, app

from mlops_mlflow_server import lanes

_logger = logging.getLogger("mlflow.mlops")

# MLflow has only /health.
PROBES = frozenset({"/health/live", "/health/startup"})


def application():
    """Return the ASGI application."""
    if not lanes.install(app, _EfficientWSGIMiddleware):
        _logger.warning("This MLflow mounts its API in another way: artifact calls share the threads of all others")
    return app


def databases() -> dict[str, str]:
    """Return the URIs of the databases that this way to log in needs: none but MLflow's own."""
    return {}


def checks() -> dict:
    """Return what else must hold before a pod is ready: nothing."""
    return {}
