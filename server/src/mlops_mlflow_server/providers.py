# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure mlflow-oidc-auth to accept tokens of the cluster's service accounts, in addition to the identity provider.

`MLOPS_KUBERNETES_NAMESPACES` lists the admitted namespaces, and `MLOPS_KUBERNETES_AUDIENCE` is the required audience.
The keys are fetched from the API server with this pod's own token, since few clusters serve them to anonymous users.
The issuer is read from that token.

Without namespaces nothing is set, and mlflow-oidc-auth uses its single-provider variables alone.
"""

import base64
import json
import pathlib
from collections.abc import Callable, Mapping

# mlflow-oidc-auth reads the pod's own token from here too.
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105  (a path)
KEYS = "https://kubernetes.default.svc/openid/v1/jwks"
CLUSTER = "cluster"

# The algorithms that mlflow-oidc-auth accepts without a list of providers.
_ALGORITHMS = ("RS", "PS", "ES")
_OF_THE_PROVIDER = [f"{family}{size}" for family in _ALGORITHMS for size in (256, 384, 512)] + ["EdDSA"]
# The algorithms that an API server may use.
_OF_THE_CLUSTER = ["RS256", "ES256", "ES384", "ES512"]


def words(text: str) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def claims(token: str) -> dict:
    """Return the claims of `token`, unverified: it is the pod's own, from the kubelet.

    Raises:
        ValueError: it is not a JSON web token.
    """
    try:
        body = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{TOKEN} is not a JSON web token")
    return found


def own_token(path: str = TOKEN) -> dict:
    """Return the claims of the pod's own token.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return claims(pathlib.Path(path).read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ValueError(
            f"MLOPS_KUBERNETES_NAMESPACES is set, and {path} cannot be read ({error.strerror}):"
            " the pod needs a token of its own to fetch the API server's keys"
        ) from None


def provider(environment: Mapping[str, str]) -> dict:
    """Return the entry of the provider in the single-provider variables.

    Raises:
        ValueError: a variable that is required with several providers is empty.
    """
    names = {
        "display_name": "OIDC_PROVIDER_DISPLAY_NAME",
        "discovery_url": "OIDC_DISCOVERY_URL",
        "client_id": "OIDC_CLIENT_ID",
        "issuer": "OIDC_ISSUER",
        "audience": "OIDC_AUDIENCE",
    }
    entry = {field: environment.get(name, "").strip() for field, name in names.items()}
    missing = [names[field] for field, value in entry.items() if not value]
    if missing:
        raise ValueError(f"MLOPS_KUBERNETES_NAMESPACES is set, so {' and '.join(missing)} must not be empty")
    # These are set per provider.
    switches = {
        field: environment.get(name, "").strip().lower() in ("true", "1", "t")
        for field, name in (("userinfo_groups", "OIDC_USERINFO_GROUPS"), ("public_client", "OIDC_PUBLIC_CLIENT"))
    }
    return {"id": "default", "type": "oidc", "allowed_algorithms": _OF_THE_PROVIDER, **entry, **switches}


def cluster(environment: Mapping[str, str], own: dict) -> dict:
    """Return the entry of the cluster's service accounts.

    Args:
        environment: the variables of the process.
        own: the claims of the pod's own token.

    Raises:
        ValueError: no audience, or the audience of the API server.
    """
    audience = environment.get("MLOPS_KUBERNETES_AUDIENCE", "").strip()
    if not audience:
        raise ValueError("MLOPS_KUBERNETES_NAMESPACES is set, so MLOPS_KUBERNETES_AUDIENCE must not be empty")
    if not own.get("iss"):
        raise ValueError(f"{TOKEN} names no issuer")
    taken = own.get("aud") or []
    if audience in [own["iss"], *([taken] if isinstance(taken, str) else taken)]:
        raise ValueError(
            f"MLOPS_KUBERNETES_AUDIENCE is '{audience}': this is the API server's own audience, so a token"
            " for MLflow would be valid for the API server too"
        )
    return {
        "id": CLUSTER,
        "type": "k8s",
        "display_name": "Kubernetes",
        "issuer": own["iss"],
        "audience": audience,
        "jwks_uri": KEYS,
        "in_cluster": True,
        "allowed_algorithms": _OF_THE_CLUSTER,
        "admin_source": "none",
        "namespace_allowlist": words(environment["MLOPS_KUBERNETES_NAMESPACES"]),
    }


def environment(given: Mapping[str, str], read: Callable[[], dict] = own_token) -> dict[str, str]:
    """Return the variables that configure both providers; empty if no namespace is listed.

    Args:
        given: the variables of the process.
        read: a function that returns the claims of the pod's own token.

    Raises:
        ValueError: a value is missing; the message names it.
    """
    if not words(given.get("MLOPS_KUBERNETES_NAMESPACES", "")):
        return {}
    return {"AUTH_PROVIDERS": json.dumps([provider(given), cluster(given, read())])}
