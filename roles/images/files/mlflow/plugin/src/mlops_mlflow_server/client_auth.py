"""How MLflow shows its client secret to the identity provider: in the header `Authorization`, as OAuth 2.0 writes it.

authlib leaves out the encoding that RFC 6749 asks for in section 2.3.1. A provider decodes what it gets, and so refuses
a secret with a percent or plus sign; and authlib can't write one beyond Latin-1 at all.
"""

import base64
from urllib.parse import quote_plus

from authlib.oauth2.auth import ClientAuth

METHOD = "client_secret_basic"


def basic(client, _method, uri, headers, body):
    """Write the header; takes and returns what authlib's own function of this kind does."""
    words = ":".join(quote_plus(word) for word in (client.client_id, client.client_secret))
    headers["Authorization"] = "Basic " + base64.b64encode(words.encode("ascii")).decode("ascii")
    return uri, headers, body


def install() -> bool:
    """Put `basic` in the place of authlib's own; say whether there was one."""
    if METHOD not in ClientAuth.DEFAULT_AUTH_METHODS:
        return False
    ClientAuth.DEFAULT_AUTH_METHODS[METHOD] = basic
    return True
