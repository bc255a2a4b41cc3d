"""Settings of this package, read from the environment of the server's process.

Variable, unit and default:

- `MLOPS_AUTH` (oidc): how people and programs log in: oidc, basic or none.
- `MLOPS_DEFAULT_PERMISSION` (NO_PERMISSIONS): with basic, what a user may do with what nobody granted.
- `MLOPS_BASIC_AUTH_FILE` (path, /tmp/basic_auth.ini): with basic, where MLflow's settings for it are written.
- `MLOPS_ADMIN_USERNAME`, `MLOPS_ADMIN_PASSWORD`: the account of playbooks, which `migrate` ensures.
- `MLOPS_ADMIN_ACCOUNT`: with oidc, the account that may issue tokens of service accounts by a token of its own.
- `MLOPS_S3_CONNECT_TIMEOUT` (s, 3): how long a connection to the object store may take.
- `MLOPS_S3_READ_TIMEOUT` (s, 15): how long the object store may be silent within one request.
- `MLOPS_S3_USER_TIMEOUT` (s, 5): after how long without an acknowledgement a connection counts as dead.
- `MLOPS_S3_MAX_ATTEMPTS` (count, 3): attempts for one request, the first one included.
- `MLOPS_S3_PATIENCE` (s, 15): for how long an object store that is away is waited for.
- `MLOPS_S3_MAX_CONNECTIONS` (count, 32): kept connections of one worker.
- `MLOPS_ARTIFACT_THREADS` (count, 8): artifact calls that one worker serves at a time.
- `MLOPS_TRACKING_THREADS` (count, 8): all other calls that one worker serves at a time.
- `MLOPS_DRAIN_FILE` (path, /tmp/draining): while it is there, answers ask clients to close their connections.
- `MLOPS_KUBERNETES_NAMESPACES` (names, none): the namespaces whose service accounts are let in by their tokens.
- `MLOPS_KUBERNETES_AUDIENCE` (name, none): the audience that these tokens must name.
- `MLOPS_DATABASE_WAIT` (s, 120): how long `migrate` waits for each database, and `wait` for the migration.
- `MLOPS_BRIDGE_PASSWORD` (none): with basic, the password by which a proxy names the user of a call.
- `MLOPS_BRIDGE_RESERVED` (names, none): users that the proxy may not name.
"""

import os

LOGINS = ("oidc", "basic", "none")


def login() -> str:
    """Return how people and programs log in.

    Raises:
        ValueError: `MLOPS_AUTH` is none of the ways that there are.
    """
    way = os.environ.get("MLOPS_AUTH") or LOGINS[0]
    if way not in LOGINS:
        raise ValueError(f"MLOPS_AUTH is '{way}': it must be one of {', '.join(LOGINS)}")
    return way


def number(name: str, default: float, minimum: float = 0.001) -> float:
    """Return the environment variable `name` as a number.

    Args:
        name: name of the variable.
        default: what an absent or empty variable means.
        minimum: the least that is allowed.

    Raises:
        ValueError: it is not a number, or less than `minimum`; the message names variable and value.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is '{text}': it must be a number") from None
    if not minimum <= value < float("inf"):
        raise ValueError(f"{name} is '{text}': it must be at least {minimum:g}")
    return value


def count(name: str, default: int) -> int:
    """Return the environment variable `name` as a whole number of at least 1; errors as in `number`."""
    value = number(name, default, minimum=1)
    if value != int(value):
        raise ValueError(f"{name} is '{value:g}': it must be a whole number")
    return int(value)
