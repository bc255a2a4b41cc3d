# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encode the client secret for HTTP Basic authentication at the identity provider as OAuth 2.0 requires.

authlib omits the form encoding of RFC 6749, section 2.3.1. Providers decode the header, so a secret with a percent or
plus sign is refused, and authlib fails with characters beyond Latin-1.

While the secret is rotated, the provider takes another one than this process, before or after it was replaced. Where
the provider answers 401, the secret before and after the current one are tried. A provider verifies the client before
it uses up a code or a refresh token.
"""

import base64
from collections.abc import Generator
from typing import Any
from urllib.parse import quote_plus

from authlib.integrations.httpx_client import oauth2_client
from authlib.oauth2.auth import ClientAuth

from mlops_mlflow_server import ring

METHOD = "client_secret_basic"
UNAUTHORIZED = 401


def basic(client: ClientAuth, _method: str, uri: str, headers: dict, body: str) -> tuple[str, dict, str]:
    """Set the header; same signature as authlib's own function."""
    words = ":".join(quote_plus(word) for word in (client.client_id, client.client_secret))
    headers["Authorization"] = "Basic " + base64.b64encode(words.encode("ascii")).decode("ascii")
    return uri, headers, body


def flow(client: Any, request: Any) -> Generator[Any, Any, None]:
    """Send `request` with the client's secret, and again with another one where it is refused; httpx' `auth_flow`."""
    for secret in (client.client_secret, *(ring.others("OIDC_CLIENT_SECRET") if client.client_secret else ())):
        client.client_secret = secret
        url, headers, body = client.prepare(request.method, str(request.url), request.headers, request.content)
        headers["Content-Length"] = str(len(body))
        response = yield oauth2_client.build_request(url=url, headers=headers, body=body, initial_request=request)
        if response.status_code != UNAUTHORIZED:
            return


def install() -> bool:
    """Replace authlib's functions with `basic` and `flow`; return whether this version has them."""
    kind = oauth2_client.OAuth2ClientAuth
    if METHOD not in ClientAuth.DEFAULT_AUTH_METHODS or not all(
        hasattr(owner, name)
        for owner, name in ((kind, "auth_flow"), (kind, "prepare"), (oauth2_client, "build_request"))
    ):
        return False
    ClientAuth.DEFAULT_AUTH_METHODS[METHOD] = basic
    kind.auth_flow = flow
    return True
