# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `oidc`: mlflow-oidc-auth's application, hardened."""

from mlflow_oidc_auth.app import app
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from mlflow_oidc_auth.oauth import is_oidc_configured

from mlops_mlflow_server import (
    auth,
    bearer,
    client_auth,
    edge,
    grants,
    groups,
    issue,
    keycloak_claims,
    keys,
    lanes,
    logout,
    parts,
)
from mlops_mlflow_server.parts import PLUGIN, Part

# Order matters only where a part wraps another one's patch.
PARTS = (
    Part("groups", PLUGIN, groups.install, "lost groups would take effect only at the next login", required=True),
    Part(
        "claims",
        PLUGIN,
        keycloak_claims.install,
        "subgroups and unverified addresses could take over permissions",
        required=True,
    ),
    Part("logout", PLUGIN, logout.install, "the provider's session would outlive a logout", required=True),
    Part("MCP servers", PLUGIN, edge.install, "every authenticated user would see all MCP servers", required=True),
    Part("bearer tokens", PLUGIN, bearer.install, "users without an admitted group could use tokens", required=True),
    Part(
        "keys",
        PLUGIN,
        keys.install,
        "every forged token would make the server fetch the provider's keys",
        required=True,
    ),
    Part(
        "lanes",
        PLUGIN,
        lambda: lanes.install(app, AuthAwareWSGIMiddleware),
        "all calls share one thread",
        required=False,
    ),
    Part("users", PLUGIN, lambda: auth.install(app), "a slow database blocks the event loop", required=False),
    Part(
        "client secret",
        "authlib",
        client_auth.install,
        "the client secret may contain only letters and digits",
        required=False,
    ),
    Part("tokens", PLUGIN, lambda: issue.install(app), "playbooks cannot issue tokens", required=False),
)


def application():
    """Return the ASGI application.

    Raises:
        MisfitError: a required part does not fit.
    """
    parts.start(PARTS)
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
