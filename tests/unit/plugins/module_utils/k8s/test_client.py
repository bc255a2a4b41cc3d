# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the client of the Kubernetes API: where its settings come from, and what it says when something is wrong."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s import client as kube
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, ApiError, KubeError, Settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def config(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Give a kubeconfig with one context."""
    return {
        "current-context": "main",
        "clusters": [{"name": "c", "cluster": {"server": "https://example.invalid:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        **more,
    }


def saved(folder: Path, content: Any, name: str = "config") -> str:
    """Write a kubeconfig."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


# --- where the settings come from -------------------------------------------------------------------------------------


def test_reads_a_kubeconfig(tmp_path):
    pem = base64.b64encode(b"PEM").decode()
    path = saved(
        tmp_path,
        config(
            {"certificate-authority": "ca.crt", "tls-server-name": "kubernetes", "proxy-url": "http://proxy:3128"},
            {"client-certificate-data": pem, "client-key": "/abs/key", "as": "boss", "as-groups": ["a", "b"]},
        ),
    )
    settings = kube.load_settings({"kubeconfig": path})
    assert settings == Settings(
        server="https://example.invalid:6443",
        source=f"kubeconfig_path {path}, context main",
        kubeconfig=path,
        context="main",
        headers={"Impersonate-User": "boss"},
        groups=["a", "b"],
        server_name="kubernetes",
        proxy="http://proxy:3128",
        ca_file=str(tmp_path / "ca.crt"),
        cert_data="PEM",
        key_file="/abs/key",
    )


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"tokenFile": "token"}, "Bearer from-file"),
        ({"username": "u", "password": "p:w"}, "Basic " + base64.b64encode(b"u:p:w").decode()),
    ],
)
def test_ways_to_log_in(tmp_path, user, header):
    (tmp_path / "token").write_text("from-file\n")
    settings = kube.load_settings({"kubeconfig": saved(tmp_path, config(user=user))})
    assert settings.headers == {"Authorization": header}


def test_options_win_over_the_kubeconfig(tmp_path):
    settings = kube.load_settings(
        {
            "kubeconfig": saved(tmp_path, config({"insecure-skip-tls-verify": True}, {"token": "abc"})),
            "host": "https://other.invalid",
            "api_key": "key",
            "validate_certs": True,
            "ca_cert": "/ca",
            "impersonate_user": "x",
            "impersonate_groups": ["g"],
        }
    )
    assert settings.server == "https://other.invalid"
    assert settings.verify is True
    assert settings.ca_file == "/ca"
    assert settings.groups == ["g"]
    assert settings.headers == {"Authorization": "Bearer key", "Impersonate-User": "x"}


def test_environment_is_read_where_an_option_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", saved(tmp_path, config()))
    monkeypatch.setenv("K8S_AUTH_VERIFY_SSL", "false")
    settings = kube.load_settings({"kubeconfig": None, "validate_certs": None})
    assert settings.kubeconfig == str(tmp_path / "config")
    assert settings.verify is False


def test_default_kubeconfigs(tmp_path, monkeypatch):
    assert os.environ["HOME"] == str(tmp_path)
    with pytest.raises(KubeError, match=r"^kubeconfig_path is not set, and there is no default kubeconfig at ~/"):
        kube.load_settings({"kubeconfig": ""})
    saved(tmp_path, config(), ".kube/config")
    assert kube.load_settings({}).kubeconfig == "~/.kube/config"
    monkeypatch.setenv("KUBECONFIG", saved(tmp_path, config(), "other"))
    assert kube.load_settings({}).kubeconfig == str(tmp_path / "other")


def test_service_account_of_a_pod(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("pod-token")
    monkeypatch.setattr(kube, "SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    settings = kube.load_settings({})
    assert settings.server == "https://[fd00::1]:443"
    assert settings.headers == {"Authorization": "Bearer pod-token"}
    assert settings.ca_file == str(tmp_path / "ca.crt")


def test_kubeconfig_as_a_dictionary():
    settings = kube.load_settings({"kubeconfig": config(user={"token": "abc"})})
    assert settings.kubeconfig == ""
    assert settings.context == "main"


def test_a_kubeconfig_in_json(tmp_path):
    clusters = '"clusters": [{"name": "c", "cluster": {"server": "https://x"}}]'
    contexts = '"current-context": "m", "contexts": [{"name": "m", "context": {"cluster": "c"}}]'
    text = f"{{{clusters}, {contexts}}}"
    assert kube.load_settings({"kubeconfig": saved(tmp_path, text)}).server == "https://x"


def test_exec_plugins_are_left_to_the_kubernetes_client(tmp_path):
    pytest.importorskip("kubernetes")
    path = exec_kubeconfig(tmp_path, "https://example.invalid:6443/")
    settings = kube.load_settings({"kubeconfig": path})
    assert settings.headers == {"Authorization": "Bearer t"}
    assert settings.server == "https://example.invalid:6443"


def exec_kubeconfig(folder: Path, server: str, **cluster: str) -> str:
    """Write a kubeconfig that logs in by a program."""
    script = folder / "login"
    credential = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}'
    script.write_text(f"#!/bin/sh\necho '{credential}'\n")
    script.chmod(0o755)
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}
    return saved(folder, config({"server": server, **cluster}, {"exec": plugin}))


def token_kubeconfig(folder: Path, server: str, **cluster: str) -> str:
    """Write a kubeconfig with a token."""
    return saved(folder, config({"server": server, **cluster}, {"token": "t"}))


@pytest.fixture(params=[token_kubeconfig, exec_kubeconfig])
def kubeconfig_of(request, tmp_path):
    """Give a function that writes a kubeconfig for a server."""
    if request.param is exec_kubeconfig:
        pytest.importorskip("kubernetes")
    return lambda server, **cluster: request.param(tmp_path, server, **cluster)


def version(cluster: Any, **options: Any) -> dict[str, Any]:
    """Ask a cluster for its version, as a module with such options does."""
    cluster.answers["GET /version"] = (200, {"minor": "34"})
    return kube.connect(options).get("/version")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "K8S_AUTH_PROXY"])
def test_a_proxy_of_the_environment(kubeconfig_of, cluster, proxy, monkeypatch, name):
    monkeypatch.setenv(name, proxy.url)
    assert version(cluster, kubeconfig=kubeconfig_of(cluster.url)) == {"minor": "34"}
    assert proxy.targets == [cluster.url.removeprefix("http://")]


def test_a_proxy_of_the_kubeconfig_wins_over_the_environment(kubeconfig_of, cluster, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    version(cluster, kubeconfig=kubeconfig_of(cluster.url, **{"proxy-url": proxy.url}))
    assert len(proxy.targets) == 1


def test_the_option_proxy_wins(kubeconfig_of, cluster, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    path = kubeconfig_of(cluster.url, **{"proxy-url": "http://127.0.0.1:1"})
    version(cluster, kubeconfig=path, proxy=proxy.url.removeprefix("http://"))
    assert len(proxy.targets) == 1


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy", "K8S_AUTH_NO_PROXY"])
def test_hosts_without_a_proxy(kubeconfig_of, cluster, proxy, monkeypatch, name):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv(name, "example.org, 127.0.0.0/8")
    version(cluster, kubeconfig=kubeconfig_of(cluster.url))
    assert proxy.targets == []


def test_the_option_no_proxy_wins(kubeconfig_of, cluster, proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    version(cluster, kubeconfig=kubeconfig_of(cluster.url), proxy=proxy.url, no_proxy="example.org")
    assert len(proxy.targets) == 1


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypasses"),
    [
        ("api.example.org", "example.org", True),
        ("api.example.org", ".example.org", True),
        ("api.example.org", "*.example.org", True),
        ("api.example.org", "example.org:6443", True),
        ("api.example.org", "example.org:443", False),
        ("example.org", ".example.org", True),
        ("myexample.org", "example.org", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8,fd00::/8", False),
        ("fd00::1", "fd00::/8", True),
        ("api", "*", True),
        ("api", "", False),
        ("api", " , ,.", False),
    ],
)
def test_which_hosts_need_no_proxy(host, no_proxy, bypasses):
    assert kube.bypasses_proxy(host, 6443, no_proxy) is bypasses


def test_headers_for_the_proxy(cluster, proxy, tmp_path, monkeypatch):
    path = token_kubeconfig(tmp_path, cluster.url)
    given = {"proxy_basic_auth": "me:pass:word", "basic_auth": "a:b", "user_agent": "tests/1"}
    version(cluster, kubeconfig=path, proxy=proxy.url, proxy_headers=given)
    for name, value in given.items():
        monkeypatch.setenv(f"K8S_AUTH_PROXY_HEADERS_{name.upper()}", value)
    version(cluster, kubeconfig=path, proxy=proxy.url)
    version(cluster, kubeconfig=path, proxy=proxy.url.replace("//", "//other:user@"), proxy_headers={"user_agent": "x"})
    for head in proxy.heads[:2]:
        assert f"Proxy-Authorization: {kube.basic_auth('me', 'pass:word')}\r\n" in head
        assert f"\r\nAuthorization: {kube.basic_auth('a', 'b')}\r\n" in head
        assert "User-Agent: tests/1\r\n" in head
    assert f"Proxy-Authorization: {kube.basic_auth('other', 'user')}\r\n" in proxy.heads[2]


def test_a_proxy_that_refuses_is_named(cluster, proxy, tmp_path):
    proxy.status = "407 Proxy Authentication Required"
    with pytest.raises(KubeError) as failure:
        version(cluster, kubeconfig=token_kubeconfig(tmp_path, cluster.url), proxy=proxy.url)
    where = proxy.url.removeprefix("http://")
    assert f"through the proxy {where}) cannot be reached: Tunnel connection failed: 407 Proxy" in str(failure.value)


def test_a_proxy_of_another_kind_is_refused(cluster, tmp_path):
    with pytest.raises(KubeError, match=r"is of the kind socks5: only a proxy that is reached by http://"):
        version(cluster, kubeconfig=token_kubeconfig(tmp_path, cluster.url), proxy="socks5://proxy:1080")


@pytest.mark.parametrize(("given", "persist"), [({}, False), ({"persist_config": True}, True)])
def test_refreshed_tokens_are_saved_where_asked_for(tmp_path, monkeypatch, given, persist):
    kubernetes = pytest.importorskip("kubernetes")
    seen = []
    load = kubernetes.config.load_kube_config
    monkeypatch.setattr(kubernetes.config, "load_kube_config", lambda **how: [seen.append(how), load(**how)])
    kube.load_settings({"kubeconfig": exec_kubeconfig(tmp_path, "https://example.invalid"), **given})
    assert seen[0]["persist_config"] is persist


def test_a_host_with_a_client_certificate_needs_no_kubeconfig(tmp_path):
    options = {"host": "https://one", "client_cert": "/cert", "client_key": "/key", "kubeconfig": "/nonexistent"}
    settings = kube.load_settings(options)
    assert (settings.server, settings.cert_file, settings.key_file) == ("https://one", "/cert", "/key")


def test_several_files_are_left_to_the_kubernetes_client(tmp_path):
    pytest.importorskip("kubernetes")
    first = saved(tmp_path, {**config(user={"token": "t"}), "contexts": []}, "first")
    second = saved(tmp_path, {"contexts": config()["contexts"]}, "second")
    settings = kube.load_settings({"kubeconfig": f"{first}:{second}", "context": "main"})
    assert settings.headers == {"Authorization": "Bearer t"}
    with pytest.raises(KubeError, match=r"^kubeconfig_path is '.*': .*nope"):
        kube.load_settings({"kubeconfig": f"{first}:{second}", "context": "nope"})


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "it is not a kubeconfig, which is a mapping with 'clusters'"),
        ("just text", {}, "it is not a kubeconfig"),
        ("{not json", {}, "it is not a kubeconfig"),
        ("a: [", {}, "it is not a kubeconfig"),
        ("\x00", {}, "it is not a kubeconfig"),
        ("$ANSIBLE_VAULT;1.1;AES256\n3132", {}, "it is encrypted by Ansible Vault"),
        (config(), {"context": "nope"}, "kubeconfig_context is 'nope': {path} has no such context (it has main)"),
        ({**config(), "current-context": "x"}, {}, "the current context is 'x': {path} has no such context"),
        ({**config(), "current-context": None}, {}, "kubeconfig_context is not set, and {path} has no current context"),
        ({**config(), "contexts": []}, {"context": "x"}, "has no such context (it has none)"),
        ({**config(), "clusters": []}, {}, "context 'main' of {path} names the cluster 'c', which it lacks"),
        (config({"certificate-authority-data": "!"}), {}, "certificate-authority-data is not base64 of a PEM text"),
        (config(user={"tokenFile": "nope"}), {}, "the token file {folder}/nope cannot be read"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig(tmp_path, content, options, message):
    path = saved(tmp_path, content)
    with pytest.raises(KubeError) as failure:
        kube.load_settings({"kubeconfig": path, **options})
    assert message.format(path=path, folder=tmp_path) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_kubeconfig_that_cannot_be_read(tmp_path):
    with pytest.raises(KubeError, match=r"^kubeconfig_path is '/no/such': there is no such file$"):
        kube.load_settings({"kubeconfig": "/no/such"})
    with pytest.raises(KubeError, match=r"it cannot be read \(Is a directory\)$"):
        kube.load_settings({"kubeconfig": str(tmp_path)})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(KubeError, match=r"it cannot be read \(it is not text\)$"):
        kube.load_settings({"kubeconfig": str(tmp_path / "binary")})


# --- requests ---------------------------------------------------------------------------------------------------------


def api(cluster: Any, **more: Any) -> Api:
    """Give a client of the fake cluster."""
    return Api(Settings(server=cluster.url, source="kubeconfig_path /k", **more))


def test_one_connection_serves_all_requests_and_is_opened_again(cluster):
    client = api(cluster)
    cluster.namespace("one")
    assert client.find("/api/v1/namespaces/one")
    first = client._connection
    assert client.find("/api/v1/namespaces/none") is None
    assert client._connection is first
    client._connection.sock.shutdown(socket.SHUT_RDWR)
    assert client.find("/api/v1/namespaces/one")


def test_a_path_of_the_server_is_kept(cluster):
    client = Api(Settings(server=f"{cluster.url}/clusters/a/", source="x"))
    cluster.answers["GET /clusters/a/version"] = (200, {"a": 1})
    assert client.get("/version") == {"a": 1}


def test_a_busy_server_is_asked_again(cluster, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    answers = iter([(429, {}), (503, {}), (200, {"fine": True})])
    cluster.answers["GET /version"] = lambda: next(answers)
    assert api(cluster).get("/version") == {"fine": True}
    assert slept == [1, 2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}), "does not accept the credentials of kubeconfig_path /k (401 Unauthorized)"),
        (
            (403, {"kind": "Status", "message": "no"}),
            "forbids it to the user of kubeconfig_path /k (403 Forbidden): no",
        ),
        ((403, b"<html>"), "forbids it to the user of kubeconfig_path /k (403 Forbidden): /version"),
        ((500, {"kind": "Status", "message": "a\nb"}), "answered GET /version with 500: a b"),
        ((400, b"Client sent HTTP"), "answered GET /version with 400: Client sent HTTP"),
        ((502, b"<html>"), "answered GET /version with 502"),
        ((200, b"<html>"), "does not answer as a Kubernetes API does"),
        ((200, [1]), "does not answer as a Kubernetes API does"),
    ],
)
def test_answers_other_than_success(cluster, answer, message):
    cluster.answers["GET /version"] = answer
    with pytest.raises(KubeError) as failure:
        api(cluster).get("/version")
    assert message in str(failure.value)


def test_an_api_error_says_what_a_machine_needs(cluster):
    cluster.answers["GET /version"] = cluster.status(409, "AlreadyExists", "it is there")
    with pytest.raises(ApiError) as failure:
        api(cluster).get("/version")
    assert (failure.value.status, failure.value.reason, failure.value.detail) == (409, "AlreadyExists", "it is there")


def free_port() -> int:
    """Give a port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nothing_listens():
    client = Api(Settings(server=f"http://127.0.0.1:{free_port()}", source="kubeconfig_path /k"))
    with pytest.raises(KubeError, match=r"\(kubeconfig_path /k\) refused the connection: is the cluster running\?$"):
        client.get("/version")


def test_a_name_that_does_not_resolve():
    with pytest.raises(KubeError, match=r"cannot be found: the name x\.invalid does not resolve$"):
        Api(Settings(server="http://x.invalid", source="s")).get("/version")


def test_a_server_that_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Api(Settings(server=f"http://127.0.0.1:{server.getsockname()[1]}", source="s"))
        with pytest.raises(KubeError, match=r"did not answer within 0\.3 s: is it reachable from here\?$"):
            client.request("GET", "/version", timeout=0.3)


def test_a_server_that_hangs_up():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        client = Api(Settings(server=f"http://127.0.0.1:{server.getsockname()[1]}", source="s"))
        with pytest.raises(
            KubeError, match=r"ended the connection without an answer|cannot be reached: Connection reset"
        ):
            client.get("/version")


# --- TLS --------------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """Make a self-signed certificate and key; gives their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("::1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(cert_path), str(key_path)


class TLSServer:
    """Answers one request over TLS with C({"peer": NAME OF THE CLIENT'S CERTIFICATE})."""

    def __init__(self, folder: Path) -> None:
        self.cert, key = certificate(folder, "kubernetes")
        self.client_cert, self.client_key = certificate(folder, "me")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.client_cert)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(self.cert, key)
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _address = self._server.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                    peer = connection.getpeercert() or {}
                    name = dict(pair[0] for pair in peer.get("subject", ())).get("commonName", "")
                    body = f'{{"peer": "{name}"}}'.encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            except OSError:
                raw.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Give a TLS server whose certificate is for the name kubernetes."""
    server = TLSServer(tmp_path_factory.mktemp("tls"))
    yield server
    server.close()


def test_tls_with_another_server_name_and_a_client_certificate(tls):
    settings = Settings(
        server=tls.url,
        source="s",
        server_name="kubernetes",
        ca_data=Path(tls.cert).read_text(),
        cert_data=Path(tls.client_cert).read_text(),
        key_data=Path(tls.client_key).read_text(),
    )
    assert Api(settings).get("/version") == {"peer": "me"}
    files = Settings(
        server=tls.url,
        source="s",
        server_name="kubernetes",
        ca_file=tls.cert,
        cert_file=tls.client_cert,
        key_file=tls.client_key,
    )
    assert Api(files).get("/version") == {"peer": "me"}


def test_tls_without_verification(tls):
    assert Api(Settings(server=tls.url, source="s", verify=False)).get("/version") == {"peer": ""}


def test_tls_that_is_not_trusted(tls, cluster, tmp_path):
    with pytest.raises(KubeError, match=r"shows a certificate that is not trusted: self-signed certificate$"):
        Api(Settings(server=tls.url, source="s", server_name="kubernetes")).get("/version")
    with pytest.raises(KubeError, match=r"shows a certificate that is not trusted: IP address mismatch"):
        Api(Settings(server=tls.url, source="s", ca_file=tls.cert)).get("/version")
    with pytest.raises(KubeError, match=r"does not agree on TLS: "):
        Api(Settings(server=cluster.url.replace("http:", "https:"), source="s", verify=False)).get("/version")
    with pytest.raises(KubeError, match=r"^the CA certificate of s cannot be loaded: "):
        Api(Settings(server=tls.url, source="s", ca_file="/no/such"))
    with pytest.raises(KubeError, match=r"^the client certificate of s cannot be loaded: "):
        Api(Settings(server=tls.url, source="s", cert_data="nonsense"))


def test_private_keys_leave_no_files(tls, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Api(
        Settings(
            server=tls.url,
            source="s",
            cert_data=Path(tls.client_cert).read_text(),
            key_data=Path(tls.client_key).read_text(),
        )
    )
    assert list(tmp_path.iterdir()) == []
