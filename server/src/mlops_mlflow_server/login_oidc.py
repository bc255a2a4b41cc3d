# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login mode `oidc`: mlflow-oidc-auth's application, hardened."""

from mlflow.server import app as flask_app
from mlflow_oidc_auth.app import app
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.entities.auth_context import AUTH_CONTEXT_KEY
from mlflow_oidc_auth.middleware import AuthMiddleware, ProxyHeadersMiddleware, WorkspaceContextMiddleware
from mlflow_oidc_auth.middleware.auth_aware_wsgi_middleware import AuthAwareWSGIMiddleware
from mlflow_oidc_auth.middleware.route_path import is_unprotected_route
from mlflow_oidc_auth.oauth import is_oidc_configured
from starlette.types import ASGIApp, Scope

from mlops_mlflow_server import (
    admins,
    artifacts,
    assistant,
    auth,
    bearer,
    client_auth,
    compressed,
    edge,
    grants,
    groups,
    guards,
    hosts,
    issue,
    keycloak_claims,
    keys,
    lanes,
    logout,
    names,
    parts,
    ring,
    searches,
    sessions,
    straight,
    tokens,
)
from mlops_mlflow_server.callers_oidc import Caller
from mlops_mlflow_server.parts import MLFLOW, PLUGIN, Part

# These have credentials of their own, and take bodies.
_WITH_BODY = ("/scim/v2/", "/slo/")
_LOGIN = ("/login", "/callback", "/logout")


def account(scope: Scope) -> str | None:
    """Return the name of the user whose call this is, or None if nobody is logged in."""
    context = scope.get(AUTH_CONTEXT_KEY)
    return context.username if context is not None else None


def takes_no_body(path: str) -> bool:
    """Return whether a path needs no login and takes no body."""
    return is_unprotected_route(path) and not path.startswith(_WITH_BODY)


def is_login(path: str) -> bool:
    """Return whether a path is that of a login page."""
    return path.startswith(_LOGIN)


def _shorten() -> bool:
    kinds = (ProxyHeadersMiddleware, WorkspaceContextMiddleware, AuthMiddleware)
    if config.MLFLOW_ENABLE_WORKSPACES:
        # Of these, one does something after the call.
        return True
    return straight.install(app, flask_app, (AuthMiddleware,), lambda scope: account(scope) is not None) and (
        straight.pass_on(app, *kinds)
    )


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
    *artifacts.PARTS,
    Part("compressed traces", MLFLOW, compressed.install, compressed.CONSEQUENCE, required=True),
    Part("assistant", MLFLOW, lambda: assistant.install(app), assistant.CONSEQUENCE, required=True),
    Part("hosts", MLFLOW, lambda: hosts.install(app, ProxyHeadersMiddleware), hosts.CONSEQUENCE, required=True),
    Part(
        "lanes",
        PLUGIN,
        lambda: lanes.install(app, AuthAwareWSGIMiddleware, account),
        lanes.CONSEQUENCE,
        required=True,
    ),
    Part("users", PLUGIN, lambda: auth.install(app), "a slow database blocks the event loop", required=False),
    Part("short way", PLUGIN, _shorten, "every call takes a few milliseconds longer", required=False),
    Part(
        "client secret",
        "authlib",
        client_auth.install,
        "the client secret may contain only letters and digits, and logins fail while it is rotated",
        required=False,
    ),
    Part("session keys", PLUGIN, lambda: ring.install(app), "a rotation of the keys ends sessions", required=False),
    Part("tokens", PLUGIN, lambda: issue.install(app), "playbooks cannot issue tokens", required=False),
    *guards.of_store(app, Caller()),
    Part("token kinds", PLUGIN, tokens.install, "ID tokens and those of deleted accounts would do", required=True),
    Part("administrators", PLUGIN, admins.install, "former administrators would stay so by token", required=True),
    Part("names", PLUGIN, names.install, "a name could become that of another user", required=True),
    Part("searches", PLUGIN, searches.install, "searches would tell about hidden rows", required=True),
    Part(
        "logins",
        PLUGIN,
        lambda: sessions.install(app),
        "logins that do not end would fill the database",
        required=True,
    ),
)


def application() -> ASGIApp:
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
PROBES: frozenset[str] = frozenset()
