"""Who calls, when oauth2-proxy is in front: the `authorization_function` of MLflow's basic-auth.

oauth2-proxy logs people in and passes each call on with `Authorization: Basic <name>:<password of the bridge>`. That
password is known to the proxy and to this server only, so the name that comes with it is believed; with any other
password a call is what it is to basic-auth, an account with a password of its own. A person's account is made at the
first visit: without rights, and with a password that nobody knows.

Environment:

- `MLOPS_BRIDGE_PASSWORD`: the password of the bridge, of 24 characters or more.
- `MLOPS_BRIDGE_RESERVED` (comma-separated), and `MLOPS_ADMIN_ACCOUNT`: accounts that the proxy never speaks for, such
  as those of programs and of playbooks.
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

_logger = logging.getLogger("mlflow.mlops")

SHORTEST = 24
LONGEST_NAME = 255
# On these paths Authorization is the provider's own, and MLflow's is here (mlflow.gateway.constants).
GATEWAY_PATH = "/gateway/"
GATEWAY_HEADER = "X-MLflow-Authorization"

# What no name holds, or a log and a list of names would show what is not there.
_UNFIT = re.compile(r"[\x00-\x1f\x7f:,]")


def _shared_password() -> bytes:
    password = os.environ.get("MLOPS_BRIDGE_PASSWORD", "")
    if len(password) < SHORTEST:
        raise ValueError(f"MLOPS_BRIDGE_PASSWORD must have {SHORTEST} characters or more")
    return password.encode()


def _reserved_names() -> frozenset[str]:
    names = [*os.environ.get("MLOPS_BRIDGE_RESERVED", "").split(","), os.environ.get("MLOPS_ADMIN_ACCOUNT", "")]
    return frozenset(name.strip().lower() for name in names if name.strip())


_PASSWORD = _shared_password()
_RESERVED = _reserved_names()


def authenticate_request() -> Authorization | Response:
    """Return who calls, or the answer that refuses the call. MLflow asks several times a call."""
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
    if hmac.compare_digest(given.password.encode(), _PASSWORD):
        return _person(given.username)
    if auth._authenticate_cached(given.username, given.password):
        return given
    return auth.make_basic_auth_response()


def _person(claimed: str) -> Authorization | Response:
    # In lower case, as mlflow-oidc-auth keeps names, so that a stack may change between the two.
    name = claimed.strip().lower()
    if not name or len(name) > LONGEST_NAME or _UNFIT.search(name):
        return _refusal("Your login has no name that MLflow can use.")
    if name in _RESERVED:
        _logger.warning("Refused: the proxy spoke for '%s', which is no person's account", name)
        return _refusal(f"'{name}' is an account of a program or of the playbooks, and not for this login.")
    _ensure_account(name)
    return Authorization("basic", {"username": name, "password": ""})


def _ensure_account(name: str) -> None:
    if auth.store.has_user(name):
        return
    try:
        auth.store.create_user(name, secrets.token_urlsafe(48), is_admin=False)
        _logger.info("Made the account '%s' at the first visit", name)
    except MlflowException as error:
        # Of two calls at once, the other one was first.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _refusal(sentence: str) -> Response:
    return Response(sentence, status=403, mimetype="text/plain")
