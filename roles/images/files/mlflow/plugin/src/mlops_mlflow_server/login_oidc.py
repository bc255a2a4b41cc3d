"""Log in at an OpenID Connect provider: mlflow-oidc-auth's application, made fit for a team."""

import logging

from mlflow_oidc_auth.app import app
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from mlflow_oidc_auth.oauth import is_oidc_configured

from mlops_mlflow_server import auth, client_auth, lanes

_logger = logging.getLogger("mlflow.mlops")


def application():
    """Return the ASGI application."""
    if not lanes.install(app, AuthAwareWSGIMiddleware):
        _logger.warning("This mlflow-oidc-auth mounts MLflow in another way: all calls of a worker share one thread")
    if not auth.install(app):
        _logger.warning(
            "This mlflow-oidc-auth looks users up in another way: a slow database stops a worker's event loop"
        )
    if not client_auth.install():
        _logger.warning(
            "This authlib names its methods in another way: a client secret may hold only letters and digits"
        )
    return app


def databases() -> dict[str, str]:
    """Return the URIs of the databases that this way to log in needs, by what readiness calls them."""
    return {"database": config.OIDC_USERS_DB_URI}


def checks() -> dict:
    """Return what else must hold before a pod is ready."""
    return {"oidc": is_oidc_configured}


# Answered by mlflow-oidc-auth itself.
PROBES = frozenset()
