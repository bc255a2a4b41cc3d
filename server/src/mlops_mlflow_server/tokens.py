# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse bearer tokens that are not meant for an API, and tokens of Kubernetes service accounts that no longer exist.

An ID token says to MLflow who logged in; it is no key to the API. Also, it is in the URL of a logout. Keycloak names
the kind of its tokens in the claim `typ`. Elsewhere, a token is an ID token if it has the hash of another token, or a
nonce and nothing that an access token has to say: its client or its scopes.

A signature and an expiry cannot say that a service account was deleted. The API server is therefore asked
(TokenReview), and its answer cached for a minute. Without an answer the token is refused. A token that is valid for
longer than `MLOPS_KUBERNETES_TOKEN_LIFETIME` seconds is refused as well; those of the kubelet last an hour unless a pod
asks for more.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

import requests
from cachetools import TTLCache
from mlflow_oidc_auth import auth
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.kubernetes import in_cluster_credentials
from mlflow_oidc_auth.middleware import auth_middleware
from mlflow_oidc_auth.utils import request_helpers_fastapi as helpers

from mlops_mlflow_server import metrics
from mlops_mlflow_server.settings import number

REVIEWS = "https://kubernetes.default.svc/apis/authentication.k8s.io/v1/tokenreviews"
REVIEW_SECONDS = 60
LONGEST = 86400.0
# Keycloak's other kinds: ID, Refresh, Offline, Logout.
_KEYCLOAK_ACCESS = frozenset({"bearer", "dpop"})
_KEYCLOAK_OTHERS = frozenset({"id", "refresh", "offline", "logout"})
# RFC 9068; the prefix "application/" may be left out.
_ACCESS_HEADERS = frozenset({"at+jwt", "application/at+jwt"})
_HASHES = ("at_hash", "c_hash")
# Claims of access tokens: RFC 9068, and those of Okta (cid, scp), Entra (appid, azp, scp) and Keycloak (azp).
_OF_ACCESS = ("client_id", "azp", "appid", "cid", "scope", "scp")


class RefusedError(Exception):
    """The token is valid, and still no key to the API; the message is a sentence."""


def is_id_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Return whether this is a token for the client that a user logs in to, and not one for an API."""
    if str(header.get("typ", "")).lower() in _ACCESS_HEADERS:
        return False
    kind = str(claims.get("typ", "")).lower()
    if kind in _KEYCLOAK_ACCESS:
        return False
    if kind in _KEYCLOAK_OTHERS or any(name in claims for name in _HASHES):
        return True
    return "nonce" in claims and not any(name in claims for name in _OF_ACCESS)


def check_lifetime(claims: Mapping[str, Any], longest: float) -> None:
    """Check how long a token is valid in all.

    Raises:
        RefusedError: longer than `longest` seconds, or it does not say.
    """
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int | float) or not isinstance(expires, int | float):
        raise RefusedError("The service account's token does not say when it was issued and when it expires")
    if expires - issued > longest:
        raise RefusedError(
            f"The service account's token is valid for {expires - issued:.0f} s, and {longest:.0f} s are the most:"
            " request one with a shorter expiration"
        )


class Reviews:
    """Asks the API server whether it still accepts a token.

    Args:
        seconds: how long an answer is cached.
    """

    def __init__(self, seconds: float = REVIEW_SECONDS):
        self._key = secrets.token_bytes(32)
        self._known: TTLCache = TTLCache(maxsize=4096, ttl=seconds)
        self._lock = threading.Lock()

    def check(self, token: str, audience: str) -> None:
        """Check a token; cached.

        Raises:
            RefusedError: the API server does not accept it, or does not answer.
        """
        digest = hashlib.blake2b(f"{audience}\n{token}".encode(), key=self._key).digest()
        with self._lock:
            accepted = self._known.get(digest)
        metrics.LOGIN_CHECKS.labels("service account", "miss" if accepted is None else "hit").inc()
        if accepted is None:
            accepted = self._ask(token, audience)
            with self._lock:
                self._known[digest] = accepted
        if not accepted:
            raise RefusedError("The API server does not accept the service account's token: it may have been deleted")

    def _ask(self, token: str, audience: str) -> bool:
        own, ca = in_cluster_credentials()
        if not own or not ca:
            raise RefusedError("The pod has no token and CA of its own to ask the API server with")
        review: dict[str, Any] = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        try:
            # Not mlflow-oidc-auth's http_client, which only reads; the CA of the cluster is the only one to trust.
            answer = requests.post(
                REVIEWS,
                json=review,
                headers={"Authorization": f"Bearer {own}"},
                verify=ca,
                timeout=config.OIDC_HTTP_TIMEOUT_SECONDS,
                allow_redirects=False,
            )
            answer.raise_for_status()
            status = answer.json()["status"]
        except (requests.RequestException, ValueError, KeyError) as error:
            raise RefusedError(
                f"The API server cannot be asked about the service account's token: {type(error).__name__}"
            ) from None
        return status.get("authenticated") is True and audience in (status.get("audiences") or ())


def install() -> bool:
    """Wrap mlflow-oidc-auth's validation of bearer tokens; return whether this version has the expected names."""
    validate: Callable[[str], Any] | None = getattr(auth_middleware, "validate_token", None)
    if validate is None or not hasattr(auth, "resolve_token_provider") or not hasattr(helpers, "validate_token"):
        return False
    longest = number("MLOPS_KUBERNETES_TOKEN_LIFETIME", LONGEST, minimum=1)
    reviews = Reviews()

    def validate_token(token: str) -> Any:
        claims = validate(token)
        provider = auth.resolve_token_provider(token)
        if provider.type == "k8s":
            check_lifetime(claims, longest)
            reviews.check(token, provider.audience)
        elif is_id_token(claims.header, claims):
            raise RefusedError("This is an ID token: send an access token")
        return claims

    auth_middleware.validate_token = helpers.validate_token = validate_token
    return True
