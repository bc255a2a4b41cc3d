# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `oidc`: mlflow-oidc-auth's application, hardened."""

import logging

from mlflow_oidc_auth.app import app
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.entities.auth_context import AUTH_CONTEXT_KEY
from mlflow_oidc_auth.middleware import ProxyHeadersMiddleware
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from mlflow_oidc_auth.middleware.route_path import is_unprotected_route
from mlflow_oidc_auth.oauth import is_oidc_configured

from mlops_mlflow_server import (
    assistant,
    auth,
    bearer,
    client_auth,
    edge,
    grants,
    groups,
    hosts,
    issue,
    keys,
    lanes,
    logout,
)

_logger = logging.getLogger("mlflow.mlops")

# These have credentials of their own, and take bodies.
_WITH_BODY = ("/scim/v2/", "/slo/")
_LOGIN = ("/login", "/callback", "/logout")


def account(scope: dict) -> str | None:
    """Return the name of the user whose call this is, or None if nobody is logged in."""
    context = scope.get(AUTH_CONTEXT_KEY)
    return context.username if context is not None else None


def takes_no_body(path: str) -> bool:
    """Return whether a path needs no login and takes no body."""
    return is_unprotected_route(path) and not path.startswith(_WITH_BODY)


def is_login(path: str) -> bool:
    """Return whether a path is that of a login page."""
    return path.startswith(_LOGIN)


# Patches of mlflow-oidc-auth and authlib, and the consequence if a version no longer has what they patch.
# The server does not start without those that protect.
_PROTECTING = (
    (groups.install, "renews sessions differently: lost groups would take effect only at the next login"),
    (logout.install, "logs out differently: the provider's session would outlive a logout"),
    (edge.install, "checks MCP servers differently: every authenticated user would see them"),
    (lambda: assistant.install(app), "includes MLflow's assistant differently: it would run commands"),
    (lambda: hosts.install(app, ProxyHeadersMiddleware), "orders middleware differently: any Host would be accepted"),
    (
        lambda: lanes.install(app, AuthAwareWSGIMiddleware, account),
        "mounts MLflow differently: idle clients would take all threads",
    ),
)
_OTHERS = (
    (lambda: auth.install(app), "looks up users differently: a slow database blocks the event loop"),
    (client_auth.install, "names its methods differently: the client secret may contain only letters and digits"),
    (bearer.install, "checks tokens differently: a slow provider blocks the event loop"),
    (keys.install, "fetches keys differently: new keys are accepted only after minutes"),
    (lambda: issue.install(app), "guards tokens differently: playbooks cannot issue any"),
)


def application():
    """Return the ASGI application.

    Raises:
        RuntimeError: this version lacks what a protecting patch replaces.
    """
    for install, consequence in _PROTECTING:
        if not install():
            raise RuntimeError(f"This version of mlflow-oidc-auth {consequence}")
    for install, consequence in _OTHERS:
        if not install():
            _logger.warning("This version of mlflow-oidc-auth or authlib %s", consequence)
    grants.install(app)  # a route of its own, independent of the version
    return app


def databases() -> dict[str, str]:
    """Return the URIs of additional databases, by their names in the readiness answer."""
    return {"database": config.OIDC_USERS_DB_URI}


def checks() -> dict:
    """Return additional readiness checks."""
    return {"oidc": is_oidc_configured}


# mlflow-oidc-auth serves them itself.
PROBES = frozenset()
