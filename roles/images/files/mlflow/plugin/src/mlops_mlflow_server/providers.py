"""Whose tokens mlflow-oidc-auth takes beside those of its one provider: those of the cluster's service accounts.

`MLOPS_KUBERNETES_NAMESPACES` lists the namespaces whose pods may come, and `MLOPS_KUBERNETES_AUDIENCE` the audience
that their tokens must name. The keys are asked of the API server with this pod's own token, since hardly any cluster
shows them to nobody in particular; and that token says which issuer the cluster's tokens name, so nobody has to.

Without namespaces nothing is set, and mlflow-oidc-auth goes by its flat variables alone.
"""

import base64
import json
import pathlib

# Where mlflow-oidc-auth looks for the pod's own token too.
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105
KEYS = "https://kubernetes.default.svc/openid/v1/jwks"
CLUSTER = "cluster"

# What mlflow-oidc-auth takes of its one provider where no list of providers is given.
_ALGORITHMS = ("RS", "PS", "ES")
_OF_THE_PROVIDER = [f"{family}{size}" for family in _ALGORITHMS for size in (256, 384, 512)] + ["EdDSA"]
# What an API server may sign with.
_OF_THE_CLUSTER = ["RS256", "ES256", "ES384", "ES512"]


def words(text: str) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def claims(token: str) -> dict:
    """Return what `token` says, unverified: it is the pod's own, from the kubelet.

    Raises:
        ValueError: it is no JSON web token.
    """
    try:
        body = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{TOKEN} holds no JSON web token")
    return found


def own_token(path: str = TOKEN) -> dict:
    """Return what the pod's own token says.

    Raises:
        ValueError: there is none; the message says what is missing.
    """
    try:
        return claims(pathlib.Path(path).read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ValueError(
            f"MLOPS_KUBERNETES_NAMESPACES is set, and {path} cannot be read ({error.strerror}):"
            " the pod needs a token of its own to ask the API server for its keys"
        ) from None


def provider(environment) -> dict:
    """Return the entry of the provider that the flat variables describe.

    Raises:
        ValueError: one that is needed beside another provider is empty.
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
    # Each provider has its own answer to these.
    for field, name in (("userinfo_groups", "OIDC_USERINFO_GROUPS"), ("public_client", "OIDC_PUBLIC_CLIENT")):
        entry[field] = environment.get(name, "").strip().lower() in ("true", "1", "t")
    return {"id": "default", "type": "oidc", "allowed_algorithms": _OF_THE_PROVIDER, **entry}


def cluster(environment, own: dict) -> dict:
    """Return the entry of the cluster's service accounts.

    Args:
        environment: the variables of the process.
        own: what the pod's own token says.

    Raises:
        ValueError: no audience, or one that any pod's token names.
    """
    audience = environment.get("MLOPS_KUBERNETES_AUDIENCE", "").strip()
    if not audience:
        raise ValueError("MLOPS_KUBERNETES_NAMESPACES is set, so MLOPS_KUBERNETES_AUDIENCE must not be empty")
    if not own.get("iss"):
        raise ValueError(f"{TOKEN} names no issuer")
    taken = own.get("aud") or []
    if audience in [own["iss"], *([taken] if isinstance(taken, str) else taken)]:
        raise ValueError(
            f"MLOPS_KUBERNETES_AUDIENCE is '{audience}': it is the API server's own, so that a token for MLflow"
            " would do for the API server too"
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


def environment(given, read=own_token) -> dict[str, str]:
    """Return the variables that tell mlflow-oidc-auth of both providers; none where no namespace is allowed.

    Args:
        given: the variables of the process.
        read: what returns the claims of the pod's own token.

    Raises:
        ValueError: something is missing; the message says what.
    """
    if not words(given.get("MLOPS_KUBERNETES_NAMESPACES", "")):
        return {}
    return {"AUTH_PROVIDERS": json.dumps([provider(given), cluster(given, read())])}
