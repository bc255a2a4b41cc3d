"""An OpenID Connect provider on 127.0.0.1, with real keys and signatures, and one user who is always logged in."""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "mlflow"
# Characters that RFC 6749, section 2.3.1 wants to be encoded.
SECRET = "a%+ :/é€-secret"
AUDIENCE = "mlflow"


class Provider:
    """The provider; tests set who logs in, and with which groups."""

    def __init__(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.answer(self, {})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                provider.answer(self, {name: values[0] for name, values in parse_qs(body).items()})

            def log_message(self, *_unused):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._server.server_port}/realms/test"
        self.keys: list[RSAKey] = []
        self._codes: dict[str, dict] = {}
        self._refreshed: dict[str, str] = {}
        self.reset()
        self.rotate()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Set what tests change back."""
        self.user = "ada"
        self.groups: list[str] | None = ["mlflow"]
        self.lifetime = 300  # of tokens, in seconds
        self.expires_in = 300  # what the answer with a token says
        self.secret = SECRET
        self.asked: list[str] = []

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def rotate(self) -> None:
        """Sign with another key from now on; former keys stay published."""
        self.keys.insert(0, RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"}))

    def token(self, key: RSAKey | None = None, **claims) -> str:
        """Return a signed token; a claim that is None is left out."""
        key = key or self.keys[0]
        now = int(time.time())
        every = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": f"id-of-{claims.get('preferred_username', self.user)}",
            "iat": now,
            "exp": now + self.lifetime,
            "preferred_username": self.user,
            "name": self.user.title(),
            "groups": self.groups,
            **claims,
        }
        known = {name: value for name, value in every.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": key.kid}, known, key)

    def answer(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        """Answer a request."""
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name = parts.path.rpartition("/")[2]
        self.asked.append(name)
        if name == "authorize":
            code = secrets.token_hex(8)
            self._codes[code] = query
            request.send_response(302)
            request.send_header(
                "Location", f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            )
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        status, body = {
            "openid-configuration": lambda: (200, self._configuration()),
            "jwks": lambda: (200, {"keys": [key.as_dict(private=False) for key in self.keys]}),
            "token": lambda: self._token(request.headers.get("Authorization", ""), form),
        }.get(name, lambda: (404, {}))()
        content = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _configuration(self) -> dict:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _token(self, header: str, form: dict[str, str]) -> tuple[int, dict]:
        scheme, _unused, words = header.partition(" ")
        given = [unquote_plus(word) for word in base64.b64decode(words).decode("ascii").split(":")]
        if scheme != "Basic" or given != [CLIENT, self.secret]:
            return 401, {"error": "invalid_client"}
        nonce = None
        if form["grant_type"] == "client_credentials":
            return 200, {"access_token": self.token(), "token_type": "Bearer", "expires_in": self.expires_in}
        if form["grant_type"] == "authorization_code":
            asked = self._codes.pop(form["code"])
            challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            if challenge.rstrip(b"=").decode() != asked["code_challenge"]:
                return 400, {"error": "invalid_grant"}
            nonce, user = asked.get("nonce"), self.user
        elif form["refresh_token"] in self._refreshed:
            user = self._refreshed.pop(form["refresh_token"])
        else:
            return 400, {"error": "invalid_grant"}
        refresh = secrets.token_hex(16)
        self._refreshed[refresh] = user
        return 200, {
            "access_token": self.token(preferred_username=user),
            "id_token": self.token(preferred_username=user, nonce=nonce),
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }


def log_in(client: httpx.Client, path: str = "/login") -> httpx.Response:
    """Log the provider's user in to the server of `client` as a browser does; return the callback's answer."""
    begun = client.get(path)
    assert begun.status_code == 302, begun.text
    back = httpx.get(begun.headers["location"]).headers["location"]
    # The redirect URI is the public URL, which a proxy leads here.
    return client.get(back.removeprefix("https://mlflow.example.com"))
