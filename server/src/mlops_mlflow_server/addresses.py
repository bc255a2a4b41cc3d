# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address of the client of a request.

Behind a proxy, the connection is the proxy's. `X-Forwarded-For` counts only if the connection comes from one of
`TRUSTED_PROXIES`, which mlflow-oidc-auth reads as well: others could write any address into it. uvicorn's own trust
(`FORWARDED_ALLOW_IPS`) is off.
"""

import functools
import os

from uvicorn.middleware.proxy_headers import _TrustedHosts

UNKNOWN = "unknown"


@functools.cache
def trusted_proxies() -> _TrustedHosts | None:
    """Return the proxies whose `X-Forwarded-For` counts, or None if there are none."""
    names = [name.strip() for name in os.environ.get("TRUSTED_PROXIES", "").split(",") if name.strip()]
    return _TrustedHosts(names) if names else None


def is_trusted_proxy(host: str) -> bool:
    """Return whether a connection from `host` is that of a trusted proxy."""
    proxies = trusted_proxies()
    return proxies is not None and host in proxies


def client_address(scope: dict) -> str:
    """Return the address of the client of this ASGI request."""
    client = scope.get("client")
    host = client[0] if client else UNKNOWN
    if not is_trusted_proxy(host):
        return host
    forwarded = b", ".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin1")
    trusted = trusted_proxies()
    return (trusted.get_trusted_client_address(forwarded)[0] if trusted is not None else None) or host
