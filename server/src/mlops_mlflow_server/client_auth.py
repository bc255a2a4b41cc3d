# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encode the client secret for HTTP Basic authentication at the identity provider as OAuth 2.0 requires.

authlib omits the form encoding of RFC 6749, section 2.3.1. Providers decode the header, so a secret with a percent or
plus sign is refused, and authlib fails with characters beyond Latin-1.
"""

import base64
from urllib.parse import quote_plus

from authlib.oauth2.auth import ClientAuth

METHOD = "client_secret_basic"


def basic(client: ClientAuth, _method: str, uri: str, headers: dict, body: str) -> tuple[str, dict, str]:
    """Set the header; same signature as authlib's own function."""
    words = ":".join(quote_plus(word) for word in (client.client_id, client.client_secret))
    headers["Authorization"] = "Basic " + base64.b64encode(words.encode("ascii")).decode("ascii")
    return uri, headers, body


def install() -> bool:
    """Replace authlib's function with `basic`; return whether this version has it."""
    if METHOD not in ClientAuth.DEFAULT_AUTH_METHODS:
        return False
    ClientAuth.DEFAULT_AUTH_METHODS[METHOD] = basic
    return True
