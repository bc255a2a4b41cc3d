"""Log in at an OpenID Connect provider: mlflow-oidc-auth's application, made fit for a team."""

import logging

from mlflow_oidc_auth.app import app
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from mlflow_oidc_auth.oauth import is_oidc_configured

from mlops_mlflow_server import auth, bearer, client_auth, edge, grants, groups, issue, keys, lanes, logout

_logger = logging.getLogger("mlflow.mlops")


# What is put in place around mlflow-oidc-auth, and what is amiss where its version no longer has room for it.
_PARTS = (
    (lambda: lanes.install(app, AuthAwareWSGIMiddleware), "mounts MLflow in another way: all calls share one thread"),
    (lambda: auth.install(app), "looks users up in another way: a slow database stops the event loop"),
    (client_auth.install, "names its methods in another way: a client secret may hold only letters and digits"),
    (bearer.install, "checks tokens in another way: a slow provider stops the event loop"),
    (keys.install, "fetches keys in another way: new ones are known after minutes only"),
    (groups.install, "renews sessions in another way: lost groups are noticed at a login only"),
    (logout.install, "logs out in another way: the provider's session may outlive a logout"),
    (edge.install, "guards MCP servers in another way: everybody who is logged in may see them"),
    (lambda: issue.install(app), "guards its tokens in another way: the deployment can issue none"),
)


def application():
    """Return the ASGI application."""
    for install, otherwise in _PARTS:
        if not install():
            _logger.warning("This mlflow-oidc-auth or authlib %s", otherwise)
    grants.install(app)  # a route of our own, for which there is room in any version
    return app


def databases() -> dict[str, str]:
    """Return the URIs of the databases that this way to log in needs, by what readiness calls them."""
    return {"database": config.OIDC_USERS_DB_URI}


def checks() -> dict:
    """Return what else must hold before a pod is ready."""
    return {"oidc": is_oidc_configured}


# Answered by mlflow-oidc-auth itself.
PROBES = frozenset()
