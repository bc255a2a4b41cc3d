# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file of MLflow's basic-auth.

basic-auth shares the database `OIDC_USERS_DB_URI` with mlflow-oidc-auth, whose tables have the same names, so it uses a
schema of its own. The file contains no password: libpq reads it from the environment.
"""

import configparser
import os
import pathlib
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

SCHEMA = "basic_auth"
DEFAULT_FILE = "/tmp/basic_auth.ini"  # noqa: S108  (the pod's own /tmp)
DEFAULT_PERMISSION = "NO_PERMISSIONS"
OWN_AUTHENTICATION = "mlflow.server.auth:authenticate_request_basic_auth"
BRIDGE = "mlops_mlflow_server.bridge:authenticate_request"


def schema_uri(uri: str) -> str:
    """Return the database URI `uri` with only basic-auth's schema in its search path."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query["options"] = f"{query.get('options', '')} -csearch_path={SCHEMA}".strip()
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def ini(environment: Mapping[str, str]) -> str:
    """Return the text of MLflow's basic_auth.ini for these variables."""
    values = {
        "default_permission": environment.get("MLOPS_DEFAULT_PERMISSION") or DEFAULT_PERMISSION,
        "database_uri": schema_uri(environment["OIDC_USERS_DB_URI"]),
        "authorization_function": BRIDGE if environment.get("MLOPS_BRIDGE_PASSWORD") else OWN_AUTHENTICATION,
        "grant_default_workspace_access": "false",
        # mlops_mlflow_server.passwords caches without delaying changes.
        "auth_cache_ttl_seconds": "0",
    }
    # configparser interpolates percent signs.
    return "[mlflow]\n" + "".join(f"{name} = {value.replace('%', '%%')}\n" for name, value in values.items())


def write(environment: Mapping[str, str]) -> dict[str, str]:
    """Write the file with mode 0600, and return the environment variables that point MLflow to it."""
    path = pathlib.Path(environment.get("MLOPS_BASIC_AUTH_FILE") or DEFAULT_FILE)
    path.unlink(missing_ok=True)
    text = ini(environment)
    configparser.ConfigParser().read_string(text)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(path),
        # The migration creates the administrator, so the server does not need the password.
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
    }
