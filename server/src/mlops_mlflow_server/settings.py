# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of this package, read from the environment of the server's process.

Variable (unit, default):

- `MLOPS_AUTH` (oidc): login mode: oidc, basic or none.
- `MLOPS_DEFAULT_PERMISSION` (NO_PERMISSIONS): with basic, the permission on objects without a grant.
- `MLOPS_BASIC_AUTH_FILE` (path, /tmp/basic_auth.ini): with basic, the path of its configuration file.
- `MLOPS_ADMIN_USERNAME`, `MLOPS_ADMIN_PASSWORD`: the playbooks' account, which `migrate` ensures.
- `MLOPS_ADMIN_ACCOUNT`: with oidc, the account that may issue tokens for service accounts with its own token.
- `MLOPS_S3_CONNECT_TIMEOUT` (s, 3): connect timeout of the object store.
- `MLOPS_S3_READ_TIMEOUT` (s, 15): read timeout of the object store.
- `MLOPS_S3_USER_TIMEOUT` (s, 5): TCP user timeout: a connection without an acknowledgement for this long is dead.
- `MLOPS_S3_MAX_ATTEMPTS` (count, 3): attempts per request, including the first.
- `MLOPS_S3_PATIENCE` (s, 15): how long to wait for an unavailable object store.
- `MLOPS_S3_MAX_CONNECTIONS` (count, 32): connection pool size of a worker.
- `MLOPS_ARTIFACTS_DIRECT` (false): whether clients transfer large files by presigned URLs: true or false.
- `MLOPS_S3_PUBLIC_URL` (URL, the server's own endpoint): what presigned URLs are signed for.
- `MLOPS_ARTIFACT_THREADS` (count, 8): concurrent artifact calls of a worker.
- `MLOPS_TRACKING_THREADS` (count, 8): concurrent other calls of a worker.
- `MLOPS_HEADER_TIMEOUT` (s, 15): a connection whose request headers are not complete in this time is closed.
- `MLOPS_WRITE_TIMEOUT` (s, 60): a connection whose client reads less than 64 KiB of its answer in this time is closed.
- `MLOPS_CONNECTIONS` (count, 1024): open connections of a worker; the one that is idle the longest makes room.
- `MLOPS_CONNECTIONS_PER_ADDRESS` (count, 512): the same for one client address; those of trusted proxies do not count.
- `MLOPS_REQUESTS` (count, 512): requests at once of a worker; must be less than `MLOPS_CONNECTIONS`.
- `MLOPS_REQUESTS_PER_ADDRESS` (count, 256): requests at once of one client address.
- `MLOPS_REQUESTS_PER_ACCOUNT` (count, 128): artifact calls, and other calls, of one account that run or wait.
- `MLOPS_WAITING_TIMEOUT` (s, 60): how long a call waits for a thread before it is refused with 429.
- `MLOPS_BODY_TIMEOUT` (s, 30): how long a client may pause in a body; after it, the body must have had 16 KiB/s (an
  artifact's upload: 1 KiB/s).
- `MLOPS_BODY_MEMORY` (bytes, 128 MiB): bodies of all calls at once, without uploads of artifacts.
- `MLOPS_REQUEST_MAX_SIZE` (bytes, 32 MiB): largest body of a call. MLflow's own largest, a batch of metrics, has 1 MB;
  traces and base64 in them have more.
- `MLOPS_ARTIFACT_MAX_SIZE` (bytes, 0): largest artifact that may be uploaded; 0 for no limit.
- `MLOPS_LOGINS_PER_MINUTE` (count, 300): calls of the login pages by one client address.
- `MLOPS_FAILURES_PER_MINUTE` (count, 10): wrong passwords or tokens by one client address for one name; for all
  names it is 60 times that.
- `MLOPS_PRUNE_PAUSE` (s, 60): the least time between two deletions of expired logins and sessions by a worker.
- `MLOPS_TLS_PORT` (port, none), `MLOPS_TLS_FOLDER` (path): where https is served, and the folder of its certificate.
- `MLOPS_PUBLIC_URL` (URL, none): by which clients outside of the cluster call the server; its path is taken off.
- `TRUSTED_PROXIES` (networks, none): proxies whose `X-Forwarded-For` names the client address.
- `MLOPS_DRAIN_FILE` (path, /tmp/draining): while this file exists, answers ask clients to close their connections.
- `MLOPS_KUBERNETES_NAMESPACES` (names, none): namespaces whose service account tokens are accepted.
- `MLOPS_KUBERNETES_AUDIENCE` (name, none): the required audience of these tokens.
- `MLFLOW_CRYPTO_KEK_PASSPHRASE`, `MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY`: required, of MLflow.
- `MLOPS_PREVIOUS_<variable>`, `MLOPS_NEXT_<variable>` (none): the keys before and after the current one (`ring`), of
  `SECRET_KEY`, `OIDC_CLIENT_SECRET` and the two variables above.
- `MLOPS_TOP_LEVEL_GROUPS` (names with slashes between them, none): with oidc, groups that count at the top level only.
- `MLOPS_VERIFIED_EMAIL` (false): with oidc, whether an address must be verified to be a user's name.
- `MLOPS_DATABASE_WAIT` (s, 120): how long `migrate` waits for each database, and `wait` for the migration.
- `MLOPS_UNTESTED_VERSIONS` (false): whether to start and to migrate with versions of MLflow or mlflow-oidc-auth that
  were not tested.
- `MLOPS_BRIDGE_PASSWORD` (none): with basic, the password with which a proxy names the user of a call.
- `MLOPS_BRIDGE_RESERVED` (names, none): accounts that the proxy must not use.
- `MLOPS_ARTIFACT_LOCATIONS` (true or false, false): whether users may choose an experiment's artifact location.
- `MLOPS_LOG_FORMAT` (text): text, or json for an object a line; of commands too.
- `MLOPS_AUDIT_LOG` (off): where the audit log is written: off, stdout or the path of a folder.
- `MLOPS_AUDIT_READS` (false): whether the audit log has lines for calls that change nothing.
- `MLOPS_OTLP_ENDPOINT` (URL, none): a collector of OpenTelemetry by HTTP, which gets the server's own spans at
  `/v1/traces` below it.
- `MLOPS_OTLP_SAMPLE_RATIO` (1): of calls that have spans, from 0 to 1.
- `MLOPS_OTLP_CA_FILE` (path, none): the CA of the collector, instead of the public ones.
- `MLOPS_OTLP_HEADERS` (name=value with commas between, none): what the collector asks for, such as a token.
- `MLOPS_OTLP_NAMESPACE` (name, none): the namespace of the pod, which spans name.
- `MLOPS_COUNT_INTERVAL` (s, 600): the pause between two counts of what is stored, for metrics.
- `MLOPS_KUBERNETES_TOKEN_LIFETIME` (s, 86400): the longest accepted lifetime of a service account's token.
"""

import os

LOGINS = ("oidc", "basic", "none")


def login() -> str:
    """Return the login mode.

    Raises:
        ValueError: `MLOPS_AUTH` is not one of the modes.
    """
    way = os.environ.get("MLOPS_AUTH") or LOGINS[0]
    if way not in LOGINS:
        raise ValueError(f"MLOPS_AUTH is '{way}': it must be one of {', '.join(LOGINS)}")
    return way


def number(name: str, default: float, minimum: float = 0.001) -> float:
    """Return the environment variable `name` as a number.

    Args:
        name: name of the variable.
        default: the value if the variable is absent or empty.
        minimum: the smallest allowed value.

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


def flag(name: str) -> bool:
    """Return whether the environment variable `name` is true; false if it is absent or empty.

    Raises:
        ValueError: it is neither true nor false; the message names variable and value.
    """
    text = os.environ.get(name, "").strip().lower()
    if text not in ("", "true", "false"):
        raise ValueError(f"{name} is '{os.environ[name]}': it must be true or false")
    return text == "true"
