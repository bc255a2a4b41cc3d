"""Which bearer tokens are keys to the API: with the real server, and with a real API of token reviews."""

import http.server
import json
import ssl
import subprocess
import threading
import time

import pytest

CURRENT = "/api/2.0/mlflow/users/current"

# Tokens as the providers make them, abridged: https://www.rfc-editor.org/rfc/rfc9068, and the manuals of each.
ACCESS = {
    "keycloak": ({"typ": "JWT"}, {"typ": "Bearer", "azp": "mlflow", "scope": "openid"}),
    "keycloak before 25": ({"typ": "JWT"}, {"typ": "Bearer", "azp": "mlflow", "nonce": "n"}),
    "rfc 9068": ({"typ": "at+jwt"}, {"client_id": "mlflow", "nonce": "n", "at_hash": "h"}),
    "entra 2.0": ({"typ": "JWT"}, {"azp": "c", "scp": "user_impersonation", "uti": "u", "ver": "2.0"}),
    "entra 1.0": ({"typ": "JWT", "nonce": "n"}, {"appid": "c", "scp": "user_impersonation", "ver": "1.0"}),
    "entra, of a program": ({"typ": "JWT"}, {"azp": "c", "roles": ["x"], "idtyp": "app"}),
    "okta": ({}, {"cid": "c", "uid": "u", "scp": ["openid"], "ver": 1}),
    "auth0": ({"typ": "JWT"}, {"azp": "c", "scope": "openid"}),
    "authentik": ({"typ": "JWT"}, {"azp": "c", "uid": "u", "nonce": "n", "scope": "openid"}),
    "least": ({}, {}),
}
NOT_ACCESS = {
    "keycloak": ({"typ": "JWT"}, {"typ": "ID", "azp": "mlflow"}),
    "keycloak, offline": ({"typ": "JWT"}, {"typ": "Offline", "azp": "mlflow"}),
    "keycloak, refresh": ({"typ": "JWT"}, {"typ": "Refresh", "azp": "mlflow"}),
    "entra": ({"typ": "JWT"}, {"nonce": "n", "roles": ["x"], "ver": "2.0"}),
    "okta": ({}, {"nonce": "n", "at_hash": "h", "idp": "i", "amr": ["pwd"]}),
    "google": ({"typ": "JWT"}, {"azp": "c", "at_hash": "h"}),
    "hybrid flow": ({}, {"c_hash": "h"}),
}


@pytest.mark.parametrize("name", ACCESS)
def test_access_tokens_are_accepted(name):
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (after the stand-ins of other tests)

    assert not tokens.is_id_token(*ACCESS[name])


@pytest.mark.parametrize("name", NOT_ACCESS)
def test_other_tokens_are_refused(name):
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (as above)

    assert tokens.is_id_token(*NOT_ACCESS[name])


def test_server_accepts_access_tokens_only(oidc_server, login_provider):
    login_provider.groups["ann"] = ["people"]
    for kind, status in (("Bearer", 200), ("ID", 401), ("Refresh", 401)):
        bearer = {"Authorization": f"Bearer {login_provider.access_token('ann', typ=kind)}"}
        assert oidc_server.call(None, "GET", CURRENT, headers=bearer).status_code == status
        assert oidc_server.call(None, "GET", "/api/2.0/mlflow/users", headers=bearer).status_code in (status, 403)


# Service accounts of the cluster


class ApiServer:
    """An API server that has keys and reviews tokens, with a CA of its own, and a pod's files for it."""

    def __init__(self, folder):
        self.reviewed, self.answer = [], (201, True)
        outer = self
        key, certificate = folder / "tls.key", folder / "ca.crt"
        make = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        )
        subprocess.run([*make.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_unused):
                pass

            def do_POST(self):
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.reviewed.append((self.path, self.headers["Authorization"], review))
                status, accepted = outer.answer
                audiences = review["spec"]["audiences"] if accepted is True else ["another"]
                result = {"authenticated": bool(accepted), "audiences": audiences}
                body = json.dumps({"status": result}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"https://localhost:{self._http.server_address[1]}/apis/authentication.k8s.io/v1/tokenreviews"
        self.ca = str(certificate)

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def api_server(tmp_path, monkeypatch):
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (as above)

    server = ApiServer(tmp_path)
    monkeypatch.setattr(tokens, "REVIEWS", server.url)
    monkeypatch.setattr(tokens, "in_cluster_credentials", lambda: ("own-token", server.ca))
    yield server
    server.close()


def test_api_server_is_asked_once_a_minute(api_server):
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (as above)

    reviews = tokens.Reviews(seconds=0.5)
    for _unused in range(3):
        reviews.check("a-token", "mlflow-api")
    assert len(api_server.reviewed) == 1
    path, authorization, review = api_server.reviewed[0]
    assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert authorization == "Bearer own-token"
    assert review["spec"] == {"token": "a-token", "audiences": ["mlflow-api"]}
    assert review["kind"] == "TokenReview"
    api_server.answer = (201, False)
    reviews.check("a-token", "mlflow-api")
    time.sleep(0.6)
    with pytest.raises(tokens.RefusedError, match="may have been deleted"):
        reviews.check("a-token", "mlflow-api")


@pytest.mark.parametrize("answer", [(201, False), (201, "for another audience"), (403, True), (500, True)])
def test_token_is_refused_without_an_approval(api_server, answer):
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (as above)

    api_server.answer = answer
    with pytest.raises(tokens.RefusedError):
        tokens.Reviews().check("a-token", "mlflow-api")


def test_token_is_refused_while_the_api_server_does_not_answer(api_server, monkeypatch):
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (as above)

    reviews = tokens.Reviews()
    reviews.check("known", "mlflow-api")
    api_server.close()
    reviews.check("known", "mlflow-api")
    with pytest.raises(tokens.RefusedError, match="cannot be asked"):
        reviews.check("another", "mlflow-api")
    monkeypatch.setattr(tokens, "in_cluster_credentials", lambda: (None, None))
    with pytest.raises(tokens.RefusedError, match="no token and CA"):
        reviews.check("another", "mlflow-api")


def test_lifetime_is_bounded():
    from mlops_mlflow_server import tokens  # noqa: PLC0415  (as above)

    tokens.check_lifetime({"iat": 1000, "exp": 1000 + 86400}, 86400)
    for claims in ({"iat": 1000, "exp": 1000 + 86401}, {"exp": 1000}, {"iat": 1000}, {"iat": "1", "exp": "2"}):
        with pytest.raises(tokens.RefusedError):
            tokens.check_lifetime(claims, 86400)


LAUNCH = """
import json, sys
from types import SimpleNamespace
from mlops_mlflow_server import tokens
from mlflow_oidc_auth import auth
from mlflow_oidc_auth.middleware import auth_middleware
seen = []
auth_middleware.validate_token = lambda token: type("Claims", (dict,), {"header": {}})(json.loads(token))
auth.resolve_token_provider = lambda token: SimpleNamespace(type="k8s", audience="mlflow-api")
tokens.Reviews.check = lambda self, token, audience: seen.append(audience)
assert tokens.install()
auth_middleware.validate_token(json.dumps({"iat": 0, "exp": 3600}))
try:
    auth_middleware.validate_token(json.dumps({"iat": 0, "exp": 3601}))
except tokens.RefusedError as error:
    print(seen, error)
"""


def test_tokens_of_the_cluster_are_checked_for_lifetime_and_reviewed(tmp_path):
    import os  # noqa: PLC0415  (only here)
    import sys  # noqa: PLC0415

    environment = os.environ | {
        "MLOPS_KUBERNETES_TOKEN_LIFETIME": "3600",
        "OIDC_USERS_DB_URI": f"sqlite:///{tmp_path}/auth.db",
    }
    done = subprocess.run([sys.executable, "-c", LAUNCH], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['mlflow-api'] The service account's token is valid for 3601 s, and 3600 s")
