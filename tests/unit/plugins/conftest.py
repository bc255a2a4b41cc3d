# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server in memory, and a way to run a module as Ansible does."""

from __future__ import annotations

import base64
import datetime
import importlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.testing import patch_module_args
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


# What a path has before the name of one object, which may end as that of a list does.
SINGLE = ("namespaces", "secrets", "sealedsecrets", "externalsecrets", "certificates")


class FakeCluster:
    """Objects by path, with resource versions and conflicts as an API server has them.

    :ivar objects: what is stored, by path
    :ivar requests: method and path (with query) of each request
    :ivar answers: answers by "METHOD path" that take precedence: status and body, or a function that gives them
    :ivar before: called with method and path before each request is served, to do what another writer does meanwhile
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.answers: dict[str, Any] = {}
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.lock = threading.RLock()
        self._versions = itertools.count(1)

    def store(self, path: str, thing: dict[str, Any]) -> dict[str, Any]:
        """Store an object with a new resource version."""
        metadata = thing.setdefault("metadata", {})
        metadata.setdefault("name", path.rsplit("/", 1)[1])
        if inside := re.match(r"/(?:api|apis/[^/]+)/[^/]+/namespaces/([^/]+)/", path):
            metadata.setdefault("namespace", inside[1])
        metadata.setdefault("uid", f"uid-{path}")
        metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[path] = thing
        return thing

    def namespace(self, *names: str) -> None:
        """Make namespaces."""
        for name in names:
            self.store(f"/api/v1/namespaces/{name}", {"kind": "Namespace", "metadata": {}})

    def secret(self, place: str, data: dict[str, bytes], **more: Any) -> None:
        """Make a Secret, given as namespace/name, and its namespace."""
        namespace, name = place.split("/")
        self.namespace(namespace)
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.store(f"/api/v1/namespaces/{namespace}/secrets/{name}", {"kind": "Secret", "data": encoded, **more})

    def values(self, place: str) -> dict[str, bytes]:
        """Give the values of a Secret, given as namespace/name."""
        namespace, name = place.split("/")
        thing = self.objects[f"/api/v1/namespaces/{namespace}/secrets/{name}"]
        return {key: base64.b64decode(value) for key, value in thing["data"].items()}

    def writes(self) -> list[str]:
        """Give the requests that were no reads."""
        return [each for each in self.requests if not each.startswith("GET ")]

    def serve(self, method: str, target: str, body: bytes, content_type: str) -> tuple[int, Any]:
        """Answer a request."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        self.before(method, path)
        with self.lock:
            self.requests.append(f"{method} {target}")
            answer = self.answers.get(f"{method} {path}")
            if answer is not None:
                return answer() if callable(answer) else answer
            return getattr(self, f"_{method.lower()}")(
                path, query, yaml.safe_load(body) if body else None, content_type
            )

    def _get(self, path: str, query: dict[str, list[str]], _body: Any, _kind: str) -> tuple[int, Any]:
        if path in self.objects:
            return 200, self.objects[path]
        # A list is of one namespace, or of all.
        root, _unused, kind = path.rpartition("/")
        every = re.compile(f"{re.escape(root)}/(?:namespaces/[^/]+/)?{re.escape(kind)}")
        below = [thing for each, thing in self.objects.items() if every.fullmatch(each.rpartition("/")[0])]
        *_unused, above, last = path.split("/")
        if below or (last.endswith("s") and above not in SINGLE):
            # "key=value", "key", "!key", or "key in (one,two)", which has commas of its own.
            for pair in re.split(r",(?![^(]*\))", (query.get("labelSelector") or [""])[0]):
                key, equals, value = pair.partition("=")
                key, several, values = key.partition(" in ")
                known = [value] if equals else values.strip("()").split(",")
                below = [
                    each
                    for each in below
                    for labels in [each["metadata"].get("labels") or {}]
                    if not key
                    or (
                        key[1:] not in labels
                        if key[0] == "!"
                        else labels.get(key) in known
                        if equals or several
                        else key in labels
                    )
                ]
            for pair in query.get("fieldSelector") or []:
                field, _equals, value = pair.partition("=")
                of = {"type": lambda each: each.get("type", "Opaque")}.get(
                    field, lambda each: each["involvedObject"]["uid"]
                )
                below = [each for each in below if of(each) == value]
            return 200, {"kind": "List", "items": below}
        return self._status(404, "NotFound", f"{path} not found")

    def _post(self, path: str, _query: dict[str, list[str]], body: Any, _kind: str) -> tuple[int, Any]:
        full = f"{path}/{body['metadata']['name']}"
        if full in self.objects:
            return self._status(409, "AlreadyExists", f"{full} already exists")
        if path.startswith("/api/v1/") and path.rsplit("/", 1)[0] not in self.objects:
            return self._status(404, "NotFound", "namespaces not found")
        return 201, self.store(full, body)

    def _patch(self, path: str, _query: dict[str, list[str]], body: Any, kind: str) -> tuple[int, Any]:
        if kind == "application/apply-patch+yaml":
            return 200, self.store(path, body)
        stored = self.objects.get(path)
        if stored is None:
            return self._status(404, "NotFound", f"{path} not found")
        stored |= {"immutable": True} if body.get("immutable") else {}
        body.setdefault("metadata", {})
        version = body["metadata"].pop("resourceVersion", None)
        if version not in (None, stored["metadata"]["resourceVersion"]):
            return self._status(409, "Conflict", "the object has been modified")
        stored.setdefault("data", {}).update(body.get("data") or {})
        for field in ("labels", "annotations"):
            merged = {**(stored["metadata"].get(field) or {}), **(body["metadata"].get(field) or {})}
            stored["metadata"][field] = {key: value for key, value in merged.items() if value is not None}
        if "ownerReferences" in body["metadata"]:
            stored["metadata"]["ownerReferences"] = body["metadata"]["ownerReferences"]
        return 200, self.store(path, stored)

    def _put(self, path: str, _query: dict[str, list[str]], body: Any, _kind: str) -> tuple[int, Any]:
        stored = self.objects.get(path)
        if stored is None:
            return self._status(404, "NotFound", f"{path} not found")
        if body["metadata"].get("resourceVersion") not in (None, stored["metadata"]["resourceVersion"]):
            return self._status(409, "Conflict", "the object has been modified")
        kept = {each: stored["metadata"][each] for each in ("uid", "creationTimestamp")}
        return 200, self.store(path, {**body, "metadata": {**body["metadata"], **kept}})

    def _delete(self, path: str, _query: dict[str, list[str]], _body: Any, _kind: str) -> tuple[int, Any]:
        if self.objects.pop(path, None) is None:
            return self._status(404, "NotFound", f"{path} not found")
        return self._status(200, "", "")

    @staticmethod
    def _status(code: int, reason: str, message: str) -> tuple[int, Any]:
        return code, {"kind": "Status", "reason": reason, "message": message, "code": code}

    status = _status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cluster: FakeCluster = self.server.cluster  # type: ignore[attr-defined]
        code, answer = cluster.serve(self.command, self.path, body, self.headers.get("Content-Type") or "")
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  the names that http.server asks for

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _no_cluster_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep tests from a cluster that this machine may have."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "K8S_AUTH_KUBECONFIG", "K8S_AUTH_CONTEXT", "K8S_AUTH_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """Give an API server without objects; C(url) is where it listens."""
    fake = FakeCluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.cluster = fake  # type: ignore[attr-defined]
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def _sealing_pairs() -> list[tuple[bytes, bytes]]:
    """Make three private keys and their certificates once, the oldest first: they take a while."""
    pairs = []
    for number, year in enumerate((2021, 2022, 2023), 1):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), number)
            .not_valid_before(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(year + 20, 1, 1, tzinfo=datetime.UTC))
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        pairs.append((private, certificate.public_bytes(serialization.Encoding.PEM)))
    return pairs


@pytest.fixture
def sealing_secrets(_sealing_pairs: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    """Give three sealing keys as the controller keeps them, the oldest first."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": f"key-{number}",
                "namespace": "sealed-secrets",
                "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"},
            },
            "type": "kubernetes.io/tls",
            "data": {
                "tls.crt": base64.b64encode(certificate).decode(),
                "tls.key": base64.b64encode(private).decode(),
            },
        }
        for number, (private, certificate) in enumerate(_sealing_pairs, 1)
    ]


@pytest.fixture
def kubeconfig(cluster: FakeCluster, tmp_path: Path) -> str:
    """Give the path of a kubeconfig of the fake cluster, with contexts C(fake) and C(other)."""
    path = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": cluster.url}}],  # type: ignore[attr-defined]
        "users": [{"name": "me", "user": {"token": "the-token-of-the-tests"}}],
        "contexts": [
            {"name": "fake", "context": {"cluster": "fake", "user": "me"}},
            {"name": "other", "context": {"cluster": "gone", "user": "me"}},
        ],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.fixture
def run(kubeconfig: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Give a function that runs a module, or the action that stands for it, and gives its result by its name.

    All that it printed and returned is in C(_output).
    """

    def runner(name: str, /, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"kubeconfig": kubeconfig, **options}
        capfd.readouterr()
        if (PLUGINS / "action" / f"{name}.py").exists():
            result = _act(name, given, check, tmp_path)
            out, err = capfd.readouterr()
            return {**result, "_output": out + err + json.dumps(result)}
        module = importlib.import_module(f"ansible_collections.mlops.mlflow.plugins.modules.{name}")
        flags = {"_ansible_check_mode": check, "_ansible_diff": True}
        if "inject_invocation" in PASS_VARS:  # core 2.21 returns the invocation only where it is asked to
            flags["_ansible_inject_invocation"] = True
        with patch_module_args({**given, **flags}), pytest.raises(SystemExit):
            module.main()
        out, err = capfd.readouterr()
        return {**json.loads(out), "_output": out + err}

    return runner


def _act(name: str, options: dict[str, Any], check: bool, folder: Path) -> dict[str, Any]:
    """Run the action of a task on the control node; a task that failed by an exception has its message."""
    plugin = importlib.import_module(f"ansible_collections.mlops.mlflow.plugins.action.{name}")
    task = SimpleNamespace(
        args=options, action=f"mlops.mlflow.{name}", check_mode=check, diff=True, async_val=0, environment=None
    )
    shell = SimpleNamespace(tmpdir=None, env_prefix=lambda **_unused: "")
    connection = SimpleNamespace(transport="local", _shell=shell)
    loader = SimpleNamespace(get_basedir=lambda: str(folder))
    action = plugin.ActionModule(task, connection, None, loader, None, None)
    try:
        return action.run()
    except AnsibleActionFail as error:
        return {"failed": True, "msg": str(error)}
