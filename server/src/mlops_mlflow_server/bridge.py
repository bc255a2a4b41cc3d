# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `authorization_function` of MLflow's basic-auth behind oauth2-proxy.

oauth2-proxy authenticates users and forwards each call with `Authorization: Basic <name>:<bridge password>`. Only the
proxy and this server know that password, so the name sent with it is trusted. With any other password, basic-auth
checks the account's own. A user's account is created at the first visit, without permissions and with a random
password.

Environment:

- `MLOPS_BRIDGE_PASSWORD`: the bridge password, at least 24 characters; with those before and after it (`ring`).
- `MLOPS_BRIDGE_RESERVED` (comma-separated) and `MLOPS_ADMIN_ACCOUNT`: accounts that the proxy must not use, such as
  those of programs and of the playbooks.
"""

import hmac
import logging
import os
import re
import secrets

from flask import Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.server import auth
from werkzeug.datastructures import Authorization

from mlops_mlflow_server import ring
from mlops_mlflow_server.names import is_stable

_logger = logging.getLogger("mlflow.mlops")

SHORTEST = 24
LONGEST_NAME = 255
# On these paths, Authorization is for the model provider, and MLflow's credentials are in another header
# (mlflow.gateway.constants).
GATEWAY_PATH = "/gateway/"
GATEWAY_HEADER = "X-MLflow-Authorization"

# Characters that would corrupt logs and comma-separated lists of names.
_UNFIT = re.compile(r"[\x00-\x1f\x7f:,]")


def _shared_passwords() -> list[bytes]:
    passwords = [os.environ.get("MLOPS_BRIDGE_PASSWORD", ""), *ring.others("MLOPS_BRIDGE_PASSWORD")]
    if any(len(password) < SHORTEST for password in passwords):
        raise ValueError(f"MLOPS_BRIDGE_PASSWORD must have at least {SHORTEST} characters")
    return [password.encode() for password in passwords]


def _reserved_names() -> frozenset[str]:
    names = [*os.environ.get("MLOPS_BRIDGE_RESERVED", "").split(","), os.environ.get("MLOPS_ADMIN_ACCOUNT", "")]
    return frozenset(name.strip().lower() for name in names if name.strip())


_PASSWORDS = _shared_passwords()
_RESERVED = _reserved_names()


def authenticate_request() -> Authorization | Response:
    """Return the caller, or the response that refuses the call; cached, since MLflow asks several times per call."""
    known = g.get("mlops_caller")
    if known is None:
        known = _authenticate(_credentials())
        if isinstance(known, Authorization):
            g.mlops_caller = known
    return known


def _credentials() -> Authorization | None:
    if request.path.startswith(GATEWAY_PATH) and request.headers.get(GATEWAY_HEADER):
        return Authorization.from_header(request.headers[GATEWAY_HEADER])
    return request.authorization


def _authenticate(given: Authorization | None) -> Authorization | Response:
    if given is None or given.type != "basic" or given.username is None or given.password is None:
        return auth.make_basic_auth_response()
    # Each password is compared, so that the time taken does not tell which one was right.
    if sum(hmac.compare_digest(given.password.encode(), password) for password in _PASSWORDS):
        return _person(given.username)
    if auth._authenticate_cached(given.username, given.password):
        return given
    return auth.make_basic_auth_response()


def _person(claimed: str) -> Authorization | Response:
    # In lower case as in mlflow-oidc-auth, so that accounts match after a change of the login mode.
    name = claimed.strip().lower()
    if not name or len(name) > LONGEST_NAME or _UNFIT.search(name) or not is_stable(claimed):
        return _refusal("MLflow cannot use the name of your login.")
    if name in _RESERVED:
        _logger.warning("Refused a login as '%s' through the proxy: the account is reserved", name)
        return _refusal(f"The account '{name}' is reserved for a program or the playbooks.")
    _ensure_account(name)
    return Authorization("basic", {"username": name, "password": ""})


def _ensure_account(name: str) -> None:
    if auth.store.has_user(name):
        return
    try:
        auth.store.create_user(name, secrets.token_urlsafe(48), is_admin=False)
        _logger.info("Created the account '%s' at its first visit", name)
    except MlflowException as error:
        # A concurrent call has created it.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _refusal(sentence: str) -> Response:
    return Response(sentence, status=403, mimetype="text/plain")
