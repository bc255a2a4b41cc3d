"""Servers of each login mode as processes of their own, with users, beside an identity provider in this process.

A server is the package's application in uvicorn on 127.0.0.1, with databases in SQLite and artifacts in a folder. As a
program, `python running.py <options as JSON>` creates its databases and users, and serves.
"""

import base64
import contextlib
import dataclasses
import http.server
import importlib
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

PASSWORD = "password-of-{}"
ADMINISTRATOR = "root"
CLIENT, AUDIENCE = "mlflow", "mlflow-api"
# Seconds before their end at which the server takes tokens for expired.
LEEWAY = 30


def _plain() -> dict[str, str]:
    """Return the environment without the settings of the tests' own process."""
    kept = ("HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@dataclasses.dataclass
class Server:
    """A server that runs."""

    url: str
    folder: pathlib.Path
    passwords: dict[str, str]

    def call(
        self, user: str | None, method: str, path: str, body: typing.Any = None, **options: typing.Any
    ) -> requests.Response:
        """Make one call as this user, without following redirects."""
        auth = (user, self.passwords[user]) if user else None
        if body is not None:
            options["json"] = body
        return requests.request(method, self.url + path, auth=auth, timeout=60, allow_redirects=False, **options)

    def experiment(self, user: str | None, name: str) -> str:
        """Create an experiment and return its id."""
        answer = self.call(user, "POST", "/api/2.0/mlflow/experiments/create", {"name": name})
        assert answer.ok, answer.text
        return answer.json()["experiment_id"]

    def run(self, user: str | None, experiment_id: str) -> str:
        """Create a run and return its id."""
        answer = self.call(user, "POST", "/api/2.0/mlflow/runs/create", {"experiment_id": experiment_id})
        assert answer.ok, answer.text
        return answer.json()["run"]["info"]["run_id"]

    def python(self, user: str | None, program: str) -> str:
        """Run a program with MLflow's stock client as this user; return the last line that it prints."""
        environment = {
            **_plain(),
            "MLFLOW_TRACKING_URI": self.url,
            **({"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": self.passwords[user]} if user else {}),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]


@contextlib.contextmanager
def server(folder: pathlib.Path, mode: str, users: tuple[str, ...] = (), **environment: str) -> Iterator[Server]:
    """Serve with login mode `mode` and these users, and an administrator."""
    port = free_port()
    passwords = {user: PASSWORD.format(user) for user in (ADMINISTRATOR, *users)} if mode != "none" else {}
    options = {"folder": str(folder), "mode": mode, "port": port, "passwords": passwords, "environment": environment}
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, __file__, json.dumps(options)], stdout=stream, stderr=stream)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 600
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{url}/health/live", timeout=5).ok:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.3)
        known = folder / "tokens.json"
        yield Server(url, folder, json.loads(known.read_text()) if known.exists() else passwords)
    finally:
        # Its folder goes too, and an orderly end waits for connections.
        process.kill()
        process.wait()


class Provider:
    """An identity provider: discovery, keys, the token endpoint, and tokens with any claims."""

    def __init__(self) -> None:
        from joserfc.jwk import RSAKey  # noqa: PLC0415  (not with the stand-ins of other tests)

        self._key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.groups: dict[str, list[str]] = {}
        self.codes: dict[str, dict] = {}
        self.renewable: dict[str, str] = {}
        self.lifetime = 300
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_unused: typing.Any) -> None:
                pass

            def _answer(self, content: typing.Any, status: int = 200) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path == "/jwks":
                    self._answer({"keys": [outer._key.as_dict(private=False)]})
                else:
                    self._answer(outer.metadata())

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._answer(*outer.tokens(form))

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()

    def metadata(self) -> dict:
        """Return the discovery document."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "code_challenge_methods_supported": ["S256"],
        }

    def environment(self) -> dict[str, str]:
        """Return the variables of a server that users of this provider log in to."""
        return {
            "OIDC_DISCOVERY_URL": f"{self.url}/.well-known/openid-configuration",
            "OIDC_ISSUER": self.url,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_CLIENT_ID": CLIENT,
            "OIDC_CLIENT_SECRET": "secret",
            "OIDC_USERNAME_FIELD": "preferred_username",
            "OIDC_GROUP_NAME": "people",
            "OIDC_ADMIN_GROUP_NAME": "admins",
            "OIDC_USE_REFRESH_TOKEN": "true",
            # What tests of expired sessions count on; the process of the tests has another value.
            "OIDC_SESSION_EXPIRY_LEEWAY_SECONDS": str(LEEWAY),
        }

    def sign(self, claims: dict, **header: str) -> str:
        """Return a token with these claims; without `exp`, it is valid for `lifetime` seconds."""
        from joserfc import jwt  # noqa: PLC0415  (as above)

        now = int(time.time())
        return jwt.encode(
            {"alg": "RS256", "kid": "one", **header},
            {"iss": self.url, "iat": now, "exp": now + self.lifetime, **claims},
            self._key,
        )

    def access_token(self, user: str, **claims: typing.Any) -> str:
        """Return an access token as Keycloak makes them."""
        given = {"sub": f"id-of-{user}", "preferred_username": user, "aud": AUDIENCE, "typ": "Bearer", "azp": CLIENT}
        return self.sign({**given, "groups": self.groups.get(user, []), **claims})

    def tokens(self, form: dict[str, list[str]]) -> tuple[dict, int]:
        """Answer the token endpoint: a code or a refresh token for tokens of its user."""
        known = self.codes.pop(form.get("code", [""])[0], None)
        if known is None:
            user = self.renewable.pop(form.get("refresh_token", [""])[0], None)
            known = {"user": user} if user else None
        if known is None:
            return {"error": "invalid_grant"}, 400
        user = known["user"]
        claims = {"sub": f"id-of-{user}", "preferred_username": user, "aud": CLIENT, "groups": self.groups[user]}
        if "nonce" in known:
            claims["nonce"] = known["nonce"]
        refresh = secrets.token_urlsafe()
        self.renewable[refresh] = user
        return {
            "access_token": self.access_token(user),
            "id_token": self.sign({**claims, "typ": "ID", "name": user}),
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
        }, 200

    def begin(self, session: requests.Session, server: Server, path: str = "/login") -> str:
        """Begin a login in a browser; return the path of the callback."""
        answer = session.get(server.url + path, allow_redirects=False, timeout=60)
        assert answer.status_code == 302, answer.text
        asked = {key: values[0] for key, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        code = secrets.token_urlsafe()
        self.codes[code] = {"nonce": asked["nonce"]}
        return f"/callback?state={asked['state']}&code={code}"

    def log_in(self, server: Server, user: str) -> requests.Session:
        """Log in at the server; return the browser."""
        browser = requests.Session()
        callback = self.begin(browser, server)
        for known in self.codes.values():
            known.setdefault("user", user)
        answer = browser.get(server.url + callback, allow_redirects=False, timeout=60)
        assert answer.status_code == 302, answer.text
        assert "error" not in answer.headers["location"], answer.headers
        return browser


@pytest.fixture(scope="session")
def login_provider() -> Iterator[Provider]:
    """The identity provider of `oidc_server`."""
    running = Provider()
    yield running
    running.close()


@pytest.fixture(scope="session")
def oidc_server(tmp_path_factory: pytest.TempPathFactory, login_provider: Provider) -> Iterator[Server]:
    """A server with login mode `oidc`, and the users ann and bob with access tokens."""
    with server(tmp_path_factory.mktemp("oidc"), "oidc", ("ann", "bob"), **login_provider.environment()) as running:
        yield running


@pytest.fixture(scope="session")
def basic_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with login mode `basic`, and the users ann and bob."""
    with server(tmp_path_factory.mktemp("basic"), "basic", ("ann", "bob")) as running:
        yield running


@pytest.fixture(scope="session")
def none_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with login mode `none`."""
    with server(tmp_path_factory.mktemp("none"), "none") as running:
        yield running


def _ini(folder: pathlib.Path) -> None:
    """Write the configuration of basic-auth, which the package writes for PostgreSQL only."""
    path = folder / "basic_auth.ini"
    path.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "grant_default_workspace_access = false\nauth_cache_ttl_seconds = 0\n"
    )
    os.environ.update(MLFLOW_AUTH_CONFIG_PATH=str(path), _MLFLOW_AUTH_ADMIN_BOOTSTRAPPED="true")


def _users_of_oidc(folder: pathlib.Path, names: list[str]) -> None:
    import datetime  # noqa: PLC0415  (only the process of a server needs these)

    from mlflow_oidc_auth.store import store  # noqa: PLC0415

    tokens = {}
    for name in names:
        store.create_user(username=name, display_name=name, is_admin=name == ADMINISTRATOR)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
        tokens[name] = store.create_user_token(name, "default", expires, created_by=name)[1]
    (folder / "tokens.json").write_text(json.dumps(tokens))


def _users_of_basic(passwords: dict[str, str]) -> None:
    from mlflow.server import auth  # noqa: PLC0415  (only the process of a server needs it)

    for name, password in passwords.items():
        auth.store.create_user(name, password, is_admin=name == ADMINISTRATOR)


def main(options: dict) -> None:
    """Create databases and users, and serve."""
    folder = pathlib.Path(options["folder"])
    os.environ.update(
        MLOPS_AUTH=options["mode"],
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{folder}/mlflow.db",
        OIDC_USERS_DB_URI=f"sqlite:///{folder}/auth.db",
        SECRET_KEY=base64.b64encode(b"0" * 32).decode(),
        MLFLOW_FLASK_SERVER_SECRET_KEY="secret",
        PERMISSION_CACHE_TTL_SECONDS="0",
        # All tests have one address.
        MLOPS_LOGINS_PER_MINUTE="10000",
        MLOPS_FAILURES_PER_MINUTE="10000",
        MLOPS_PRUNE_PAUSE="2",
    )
    os.environ.update(options["environment"])
    import sqlalchemy  # noqa: PLC0415  (MLflow reads its variables when it is imported)
    import uvicorn  # noqa: PLC0415
    from mlflow.store.db.utils import _initialize_tables  # noqa: PLC0415

    from mlops_mlflow_server import serve  # noqa: PLC0415

    os.environ.update(serve.environment(serve.options(["--artifacts-destination", str(folder / "artifacts")])))
    _initialize_tables(sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"]))
    if options["mode"] == "basic":
        _ini(folder)
    application = importlib.import_module("mlops_mlflow_server.app").app
    if options["mode"] == "oidc":
        _users_of_oidc(folder, list(options["passwords"]))
    elif options["mode"] == "basic":
        _users_of_basic(options["passwords"])
    uvicorn.run(application, host="127.0.0.1", port=options["port"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
