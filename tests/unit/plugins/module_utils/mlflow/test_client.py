# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of MLflow's client against servers on this machine; what it asks of MLflow is tested with the modules."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable
from ansible_collections.mlops.mlflow.plugins.module_utils.mlflow import client as mlflow

ME = {"username": "ada", "is_admin": True}


class Server:
    """Answers from a list, each a status, a body and headers; the last one for ever."""

    def __init__(self, *answers: tuple[Any, ...], tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path, dict(self.headers), body))
                status, answer, *headers = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if status == 0:  # hang up
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = serve  # noqa: N815  the names that http.server asks for

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def serve():
    servers = []

    def make(*answers: tuple[Any, ...], **options: Any) -> Server:
        servers.append(Server(*answers, **options))
        return servers[-1]

    yield make
    for each in servers:
        each.server.shutdown()
        each.server.server_close()


def options(server: Server | None = None, **more: Any) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in mlflow.argument_spec().items()}
    url = {"url": f"http://127.0.0.1:{server.port}"} if server else {}
    return {**defaults, **url, "username": "ada", "password": "adas-password", **more}


def opened(server: Server, **more: Any) -> mlflow.MlflowApi:
    api = mlflow.open_api(options(server, **more))
    api._sleep = lambda _seconds: None
    return api


def test_one_connection_serves_all_requests(serve):
    server = serve((200, ME))
    accepted = []
    original = server.server.get_request
    server.server.get_request = lambda: accepted.append(1) or original()
    api = opened(server)

    for _unused in range(3):
        api.request("GET", "/x")

    assert api.requests == 3
    assert len(accepted) == 1


@pytest.mark.parametrize(
    ("answer", "plugin"),
    [(ME, "oidc"), ({"user": ME, "is_basic_auth": True}, "basic")],
)
def test_server_is_asked_once_which_plugin_it_runs(serve, answer, plugin):
    api = opened(serve((200, answer)))

    assert api.plugin == plugin
    assert api.whoami() == {"name": "ada", "admin": True}
    assert api.requests == 1


def test_server_without_accounts_is_reported(serve):
    with pytest.raises(mlflow.MlflowError, match="knows no accounts"):
        opened(serve((404, b"Not Found"))).whoami()


def test_other_plugin_than_the_declared_one_is_reported(serve):
    with pytest.raises(mlflow.MlflowError, match=r"auth_plugin is basic, and .* runs oidc"):
        opened(serve((200, ME)), auth_plugin="basic").whoami()


def test_unavailable_server_is_asked_again_and_a_bad_gateway_is_not(serve):
    server = serve((503, b"", ("Retry-After", "1")), (503, b""), (200, {"a": 1}))
    assert opened(server).request("POST", "/x", {"b": 2}) == {"a": 1}
    assert len(server.seen) == 3

    server = serve((502, b"bad"), (200, {}))
    with pytest.raises(mlflow.MlflowError, match="HTTP 502"):
        opened(server).request("GET", "/x")

    server = serve((503, b"down"))
    with pytest.raises(mlflow.MlflowError, match=r"MLflow refused to see it: down .HTTP 503."):
        opened(server).request("GET", "/x", what="see it")
    assert len(server.seen) == mlflow.ATTEMPTS


def test_broken_read_is_repeated_and_a_broken_write_is_not(serve):
    server = serve((200, {}), (0, b""), (200, {"a": 1}))
    api = opened(server)
    api.request("GET", "/first")
    assert api.request("GET", "/x") == {"a": 1}

    server = serve((200, {}), (0, b""), (200, {"a": 1}))
    api = opened(server)
    api.request("GET", "/first")
    with pytest.raises(Unreachable):
        api.request("POST", "/x", {})
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}, "refused to do it: no such thing"),
        (409, {"detail": "there is one"}, "refused to do it: there is one (HTTP 409)"),
        (
            422,
            {"detail": [{"loc": ["body", "name"], "msg": "is missing", "input": "planted"}]},
            "body.name: is missing",
        ),
        (500, b"<html>planted</html>", "no reason given (HTTP 500)"),
        (401, b"You are not authenticated", "does not accept the account ada: You are not authenticated"),
        (302, b"", "sends the call on to https://login.example.com/x:"),
        (200, b"<html>login planted</html>", "does not answer as MLflow does"),
    ],
)
def test_refusals_are_one_sentence(serve, status, body, sentence):
    api = opened(serve((status, body, ("Location", "https://login.example.com/x?secret=planted"))))

    with pytest.raises(mlflow.MlflowError) as caught:
        api.request("GET", "/x", what="do it")

    assert sentence in str(caught.value)
    assert "planted" not in str(caught.value)
    assert "adas-password" not in str(caught.value)


def test_what_is_not_there_is_none(serve):
    api = opened(serve((400, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"})))

    assert api.find("/x") is None


def test_path_of_the_url_and_query(serve):
    server = serve((200, []))
    api = mlflow.open_api(options(server, url=f"http://127.0.0.1:{server.port}/mlflow/"))

    api.request("GET", "/x/" + mlflow.segment("a/b c"), query={"deep": True, "none": None, "q": "ä&"})

    assert server.seen[0][1] == "/mlflow/x/a%2Fb%20c?deep=true&q=%C3%A4%26"
    assert server.seen[0][2]["Authorization"].startswith("Basic ")


def test_bearer_token(serve):
    server = serve((200, ME))
    opened(server, username=None, password=None, token="a.b.c").whoami()

    assert server.seen[0][2]["Authorization"] == "Bearer a.b.c"


@pytest.mark.parametrize(
    "url", ["mlflow.example.com", "ftp://x", "https://ada:pw@x", "https://x/?a=b", "http://[x", ""]
)
def test_wrong_url_is_one_sentence(url):
    with pytest.raises(mlflow.MlflowError, match="url must be that of MLflow's root"):
        mlflow.open_api(options(url=url))


def test_no_listener():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = mlflow.open_api(options(url=f"http://127.0.0.1:{port}"))

    with pytest.raises(Unreachable, match=f"MLflow at http://127.0.0.1:{port} refused the connection"):
        api.request("GET", "/x")


def test_silent_server_is_given_up(serve):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        api = mlflow.open_api(options(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1))
        with pytest.raises(Unreachable, match="did not answer within 1 s"):
            api.request("POST", "/x", {})


@pytest.fixture
def tls(_sealing_pairs, tmp_path):
    key, certificate = _sealing_pairs[0]
    (tmp_path / "tls.pem").write_bytes(key + certificate)
    (tmp_path / "ca.pem").write_bytes(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    return context


def test_certificate_is_verified_by_default(serve, tls, tmp_path):
    server = serve((200, ME), tls=tls)
    url = f"https://127.0.0.1:{server.port}"

    with pytest.raises(Unreachable, match=r"shows a certificate that is not trusted") as caught:
        mlflow.open_api(options(url=url)).whoami()
    assert not caught.value.transient
    # Trusted, but of another name.
    with pytest.raises(Unreachable, match=r"shows a certificate that is not trusted"):
        mlflow.open_api(options(url=url, ca_path=str(tmp_path / "ca.pem"))).whoami()
    assert mlflow.open_api(options(url=url, validate_certs=False)).whoami()["name"] == "ada"


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_wrong_ca_path_is_one_sentence(tmp_path, text):
    path = tmp_path / "ca.pem"
    if text:
        path.write_text(text)

    with pytest.raises(mlflow.MlflowError, match=r"ca_path is .*: it cannot be used"):
        mlflow.open_api(options(url="https://x", ca_path=str(path)))


def test_admin_secret_is_read_from_the_cluster(serve, cluster, kubeconfig):
    cluster.secret("mlflow/mlflow-admin", {"username": b"ada", "password": b"adas-password"})
    server = serve((200, ME))
    secret = {"namespace": "mlflow", "name": "mlflow-admin", "username_key": "username", "password_key": "password"}
    given = options(server, username=None, password=None, admin_secret=secret, kubeconfig=kubeconfig)

    api = mlflow.open_api(given)
    api.whoami()

    assert server.seen[0][2]["Authorization"] == mlflow._basic("ada", "adas-password")
    assert api.secrets == ["adas-password"]
    cluster.secret("mlflow/mlflow-admin", {"username": b"ada"})
    with pytest.raises(mlflow.MlflowError, match="Secret mlflow/mlflow-admin has no key password"):
        mlflow.open_api(given)
    with pytest.raises(mlflow.NotThereYet):
        mlflow.open_api(given, check_mode=True)


class Forwarded(mlflow.ServiceConnection):
    """A connection whose pod is ready at the third look."""

    looks = 0

    def __init__(self, port: int) -> None:
        http.client.HTTPConnection.__init__(self, "127.0.0.1", port)  # pylint: disable=non-parent-init-called

    def connect(self) -> None:
        Forwarded.looks += 1
        if Forwarded.looks < 3:
            raise Unreachable("no ready pod", transient=True)
        http.client.HTTPConnection.connect(self)


def test_pod_is_waited_for_and_the_host_is_one_that_mlflow_answers(serve):
    server = serve((200, {"a": 1}))
    Forwarded.looks = 0
    api = mlflow.MlflowApi(Forwarded(server.port), sleep=lambda _seconds: None)

    assert api.request("POST", "/x", {}) == {"a": 1}
    assert Forwarded.looks == 3
    assert api.requests == 1
    assert server.seen[0][2]["Host"] == "localhost:5000"

    Forwarded.looks = 0
    api = mlflow.MlflowApi(Forwarded(server.port), sleep=lambda _seconds: None)
    api.waits = False
    with pytest.raises(Unreachable):
        api.request("GET", "/x")
