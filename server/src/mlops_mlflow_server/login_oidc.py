# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `oidc`: mlflow-oidc-auth's application, hardened."""

import logging

from mlflow.server import app as flask_app
from mlflow_oidc_auth.app import app
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from mlflow_oidc_auth.oauth import is_oidc_configured

from mlops_mlflow_server import (
    artifacts,
    auth,
    bearer,
    client_auth,
    edge,
    grants,
    groups,
    issue,
    keys,
    lanes,
    logout,
    wsgi,
)

_logger = logging.getLogger("mlflow.mlops")


# Patches of mlflow-oidc-auth and authlib, and the consequence if a version no longer has what they patch.
# The server does not start without those that protect.
_PROTECTING = (
    (groups.install, "renews sessions differently: lost groups would take effect only at the next login"),
    (logout.install, "logs out differently: the provider's session would outlive a logout"),
    (lambda: wsgi.install() and artifacts.install(flask_app), "serves artifacts differently: they would go to disk"),
    (edge.install, "checks MCP servers differently: every authenticated user would see them"),
)
_OTHERS = (
    (lambda: lanes.install(app, AuthAwareWSGIMiddleware), "mounts MLflow differently: all calls share one thread"),
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
