"""The login of a drill, on real servers of each login mode, with a stand-in for Keycloak's pages and its admin API."""

import html
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

import conftest
from mlops_mlflow_server import walk
from mlops_mlflow_server.databases import Failure

PUBLIC = "https://mlflow.example.com"
ADMIN = {"username": b"admin", "password": b"of another time", "password-previous": b"of the backup"}
FORM = """
<html><body><h1 id="kc-page-title">Sign in</h1>
<form id="kc-form-login" action="{action}" method="post">
<input type="hidden" name="credentialId" value="of the form">
<input id="username" name="username"><input id="password" name="password" type="password"><input type="submit">
</form></body></html>
"""
ERROR = '<html><body><div id="kc-error-message"><p>{said}<br>really</p></div><a href="/">Back</a></body></html>'


class Desk:
    """What a browser and an administrator meet at Keycloak; the tokens are those of the tests' provider.

    Args:
        idp: the provider.
    """

    def __init__(self, idp):
        self._idp, self.users, self.changes = idp, {}, []
        self.error, self.pages, self.groups = "", 1, {"mlflow", "mlflow-admins"}
        desk = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                desk.answer(self, "")

            def do_POST(self):
                desk.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

            def do_PUT(self):
                self.do_POST()

            def log_message(self, *_unused):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request, body):
        path = request.path.partition("?")[0]
        if path.startswith("/admin/"):
            assert request.headers["Authorization"] == "Bearer of the administrator"
            status, headers, content = self._admin(request.command, path, json.loads(body))
        elif path == "/realms/master":
            status, headers, content = 200, {}, "{}"
        elif path == "/realms/master/protocol/openid-connect/token":
            fits = dict(urllib.parse.parse_qsl(body))["password"] == "of the backup"
            status, headers, content = 200 if fits else 401, {}, '{"access_token": "of the administrator"}'
        else:
            # As the edge sends them on.
            assert request.headers["Host"] == urllib.parse.urlsplit(self._idp.issuer).netloc
            status, headers, content = self._page(request, dict(urllib.parse.parse_qsl(body)))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        data = content.encode()
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _admin(self, method, path, body):
        if path == "/admin/realms/test":
            self.changes.append(body)
            return 204, {}, ""
        if method == "PUT":
            assert body["requiredActions"] == []
            return 204, {}, ""
        (group,) = body["groups"]
        if group[1:] not in self.groups:
            return 404, {}, '{"error": "group not found"}'
        self.users[body["username"]] = (body["credentials"][0]["value"], group[1:])
        return 201, {"Location": f"{self._idp.issuer}/users/{body['username']}-id"}, ""

    def _page(self, request, form):
        path, _mark, query = request.path.partition("?")
        if self.error:
            return 400, {}, ERROR.format(said=self.error)
        if path.endswith("/authorize"):
            self._query, self._seen = query, 0
            action = html.escape(f"{self._idp.issuer}/login-actions/authenticate?code=x&tab=y")
            headers = {"Set-Cookie": "AUTH_SESSION_ID=one; Path=/realms/test/; Secure; HttpOnly; SameSite=None"}
            return 200, headers, FORM.format(action=action)
        assert path.endswith("/login-actions/authenticate")
        assert request.headers["Cookie"] == "AUTH_SESSION_ID=one"
        assert form["credentialId"] == "of the form"
        self._seen += 1
        password, group = self.users[form["username"]]
        if self._seen < self.pages or form["password"] != password:
            return 200, {}, FORM.format(action=f"{self._idp.issuer}/login-actions/authenticate")
        self._idp.user, self._idp.groups = form["username"], [f"/{group}"]
        back = httpx.get(f"{self._idp.issuer}/authorize?{self._query}", trust_env=False).headers["Location"]
        return 302, {"Location": back}, ""


@pytest.fixture(scope="session")
def restored(migrated, tmp_path_factory):
    """A running server as a drill starts it: it knows itself by its public URL."""
    server = conftest._serving(
        "oidc",
        migrated,
        tmp_path_factory,
        "--allowed-hosts=mlflow.example.com,127.0.0.1:*",
        MLOPS_PUBLIC_URL=PUBLIC,
        **conftest.oidc_variables(conftest._provider.issuer) | {"SESSION_COOKIE_SECURE": "true"},
    )
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture
def desk(idp):
    found = Desk(idp)
    yield found
    found.stop()


def asked(way, idp=None):
    """What a drill asks for."""
    return {
        "way": way,
        "mlflow": PUBLIC,
        "keycloak": idp.issuer.partition("/realms/")[0] if idp else "",
        "realm": "test",
        "groups": ["mlflow-admins", "mlflow"],
        "keycloak_account": "keycloak/keycloak-admin",
        "mlflow_account": "mlflow/mlflow-admin",
    }


@pytest.fixture
def walked(restored, desk, idp, monkeypatch):
    """A function that walks through a stack with Keycloak."""
    monkeypatch.setattr(walk, "MLFLOW", restored.url)
    monkeypatch.setattr(walk, "KEYCLOAK", desk.url)
    monkeypatch.setattr(walk, "PATIENCE", 5)
    found = {"keycloak/keycloak-admin": ADMIN}

    def walked(run="", artifact="", content=b""):
        # Which nobody is asked by.
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        return walk.walk(asked("code", idp), found, run, artifact, lambda chunks: b"".join(chunks) == content)

    walked.found = found
    return walked


def logged(server, content, **options):
    """Log a run with an artifact; return its ID."""
    with server.client(**options) as client:
        name = {"name": f"of a drill, {len(content)} bytes"}
        experiment = client.post("/api/2.0/mlflow/experiments/create", json=name).json()["experiment_id"]
        made = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": experiment}).json()
        info = made["run"]["info"]
        path = info["artifact_uri"].partition(":/")[2]
        put = client.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}/a folder/kept+.bin", content=content)
        assert put.status_code == 200, put.text
        return info["run_id"]


ARTIFACT = "a folder/kept+.bin"


# --- the code flow ----------------------------------------------------------------------------------------------------


def test_a_new_user_logs_in_and_reads(walked, restored, desk):
    content = bytes(range(256)) * 9000
    run = logged(restored, content, auth=restored.admin)
    done = walked(run, ARTIFACT, content)
    assert (done["way"], done["run"], done["artifact"]) == ("code", run, ARTIFACT)
    assert done["user"].startswith("drill-")
    assert done["seconds"] > 0
    assert sorted(group for _password, group in desk.users.values()) == ["mlflow", "mlflow-admins"]
    assert desk.changes == [{"sslRequired": "none"}]


def test_a_realm_may_ask_for_the_name_first(walked, desk):
    desk.pages = 2
    assert walked()["run"] == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"error": "Client not found."}, r"Keycloak shows no login page \(HTTP 400\): Client not found\. really$"),
        ({"pages": 9}, "Keycloak asks for more than name and password: Sign in$"),
        ({"groups": {"mlflow"}}, r"refused to make a user in the group mlflow-admins \(HTTP 404\): .*group not found"),
    ],
)
def test_a_realm_that_lets_nobody_in(walked, desk, change, says):
    vars(desk).update(change)
    with pytest.raises(Failure, match=says):
        walked()


def test_a_client_secret_that_is_not_keycloaks(walked, idp):
    idp.secret = "another one"
    with pytest.raises(Failure, match=r"MLflow did not take the login at Keycloak .*the backup's client secret is not"):
        walked()


def test_an_administrator_whose_password_is_lost(walked):
    walked.found["keycloak/keycloak-admin"] = {"username": b"admin", "password": b"x"}
    with pytest.raises(Failure, match="does not take the administrator's password of the backup"):
        walked()
    del walked.found["keycloak/keycloak-admin"]
    with pytest.raises(Failure, match="The backup has no Secret keycloak/keycloak-admin"):
        walked()


def test_what_mlflow_lacks(walked, restored):
    run = logged(restored, b"there", auth=restored.admin)
    with pytest.raises(Failure, match=f"answers HTTP 404 instead of 200 where drill-.* reads the run {'0' * 32}"):
        walked("0" * 32)
    with pytest.raises(Failure, match=r"instead of 200 where drill-.* reads an artifact"):
        walked(run, "other")
    with pytest.raises(Failure, match="gives another content of a folder/kept"):
        walked(run, ARTIFACT, b"otherwise")


def test_nobody_else_is_asked():
    browser = walk.Browser({PUBLIC: "http://127.0.0.1:1", f"{PUBLIC}/auth": "http://127.0.0.1:2"})
    for other in ("https://mlflow.example.com.elsewhere/", "https://mlflow.example.comx", "http://mlflow.example.com/"):
        with pytest.raises(Failure, match="which is neither MLflow's URL nor Keycloak's"):
            browser.ask(other)
    for known in (PUBLIC, f"{PUBLIC}?a=b", f"{PUBLIC}/x"):
        with pytest.raises(Failure, match=rf"^{PUBLIC} stopped answering"):
            browser.ask(known)
    with pytest.raises(Failure, match=rf"^{PUBLIC}/auth stopped answering"):
        browser.ask(f"{PUBLIC}/auth/realms/x")


# --- other ways to log in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["oidc", "basic"])
def test_the_account_of_the_playbooks_reads(request, monkeypatch, way):
    server = request.getfixturevalue(way)
    monkeypatch.setattr(walk, "MLFLOW", server.url)
    name, password = server.admin
    found = {"mlflow/mlflow-admin": {"username": name.encode(), "password": password.encode()}}
    run = logged(server, b"content", auth=server.admin)
    given = asked("password") | {"mlflow": server.url}
    done = walk.walk(given, found, run, ARTIFACT, lambda chunks: b"".join(chunks) == b"content")
    assert (done["user"], done["way"]) == (name, "password")
    found["mlflow/mlflow-admin"]["password"] = b"another"
    with pytest.raises(Failure, match=f"answers HTTP 401 instead of 200 where {name} asks who it is"):
        walk.walk(given, found, run, "", lambda _chunks: True)


def test_without_a_login(none, monkeypatch):
    monkeypatch.setattr(walk, "MLFLOW", none.url)
    run = logged(none, b"content")
    given = asked("none") | {"mlflow": none.url}
    done = walk.walk(given, {}, run, ARTIFACT, lambda chunks: b"".join(chunks) == b"content")
    assert (done["user"], done["artifact"]) == ("", ARTIFACT)


def test_a_server_that_does_not_start():
    with pytest.raises(Failure, match=r"The container mlflow was not ready within 0 s \(no answer\): its log says why"):
        walk.wait_for("http://127.0.0.1:1/health/ready", "mlflow", 0.1)
