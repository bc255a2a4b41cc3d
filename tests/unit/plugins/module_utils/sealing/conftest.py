# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Sealed Secrets controller in memory that opens what is sealed.

It does what the controller's code says; the scenario default has the real one.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    KIND,
    MANAGED,
    Certificate,
    SealingError,
    label,
    scope_of,
    seal,
    unseal,
)

PROXY = "/api/v1/namespaces/sealed-secrets/services/http:sealed-secrets-controller:http/proxy"


def secret_path(place: str) -> str:
    namespace, name = place.split("/")
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"


def sealed_path(place: str) -> str:
    namespace, name = place.split("/")
    return f"/apis/bitnami.com/v1alpha1/namespaces/{namespace}/sealedsecrets/{name}"


class World:
    """A cluster with a controller, which looks after each write.

    :ivar down: whether the controller neither answers nor looks
    :ivar idle: whether it answers, and does not look
    :ivar meanwhile: called before each request, as FakeCluster.before
    """

    def __init__(self, cluster: Any, key: bytes, certificate: bytes, folder: Any) -> None:
        self.cluster = cluster
        self.keys = [key]
        self.certificate = certificate
        self.folder = folder
        self.down = self.idle = False
        self._serve = cluster.serve
        self._seconds = itertools.count(10)
        self._uids = itertools.count(1)
        cluster.serve = self.serve

    def now(self) -> str:
        return f"2026-01-01T00:00:{next(self._seconds):04}Z"

    def serve(self, method: str, target: str, body: bytes, content_type: str) -> tuple[int, Any]:
        path = target.partition("?")[0]
        if path.startswith(PROXY) and f"{method} {path}" not in self.cluster.answers:
            self.cluster.requests.append(f"{method} {target}")
            return self._controller(path.removeprefix(PROXY), body)
        before = copy.deepcopy(self.cluster.objects.get(path))
        code, answer = self._serve(method, target, body, content_type)
        if method != "GET" and code < 300 and "/sealedsecrets" in path:
            self._written(
                method, path if method != "POST" else f"{path}/{json.loads(body)['metadata']['name']}", before
            )
            if method == "DELETE":
                self._collect(path, json.loads(body or b"{}").get("propagationPolicy") == "Orphan")
        self.look()
        return code, answer

    def _controller(self, path: str, body: bytes) -> tuple[int, Any]:
        if self.down:
            return self.cluster.status(503, "ServiceUnavailable", "no endpoints available")
        if path == "/v1/cert.pem":
            return 200, self.certificate
        sealed = json.loads(body)
        try:
            values = self.open(sealed)
        except SealingError:
            return 409, b""
        if path == "/v1/rotate":
            certificate = Certificate.from_pem(self.certificate.decode())
            bound_to = label(scope_of(sealed), sealed["metadata"]["namespace"], sealed["metadata"]["name"])
            sealed["spec"]["encryptedData"] = {key: seal(certificate, values[key], bound_to) for key in values}
            return 200, sealed
        return 200, b""

    def _written(self, method: str, path: str, before: Any) -> None:
        if method == "DELETE":
            return
        there = self.cluster.objects[path]
        if before is None:
            there["metadata"]["uid"] = f"sealed-{next(self._uids)}"
        old = (before or {}).get("metadata", {}).get("generation", 0)
        there["metadata"]["generation"] = old + (before is None or before["spec"] != there["spec"])
        if before is not None:
            there["metadata"]["managedFields"] = before["metadata"].get("managedFields", [])
            there["status"] = before.get("status", {})

    def _collect(self, path: str, orphan: bool) -> None:
        place = path.replace("/apis/bitnami.com/v1alpha1", "/api/v1").replace("sealedsecrets", "secrets")
        secret = self.cluster.objects.get(place)
        if secret is not None and secret["metadata"].get("ownerReferences"):
            if orphan:
                secret["metadata"]["ownerReferences"] = []
                self.cluster.store(place, secret)
            else:
                del self.cluster.objects[place]

    def open(self, sealed: dict[str, Any]) -> dict[str, bytes]:
        metadata = sealed["metadata"]
        bound_to = label(scope_of(sealed), metadata["namespace"], metadata["name"])
        return {key: unseal(self.keys, text, bound_to) for key, text in sealed["spec"]["encryptedData"].items()}

    def look(self) -> None:
        """Do what the controller does with all SealedSecrets that it has not seen as they are."""
        for path, sealed in list(self.cluster.objects.items()):
            status = sealed.get("status") or {}
            if "/sealedsecrets/" not in path or self.down or self.idle:
                continue
            place = path.replace("/apis/bitnami.com/v1alpha1", "/api/v1").replace("sealedsecrets", "secrets")
            seen = status.get("observedGeneration") == sealed["metadata"]["generation"]
            if seen and (place in self.cluster.objects or status["conditions"][0]["status"] != "True"):
                continue
            why = self._unseal(place, sealed)
            condition = {"type": "Synced", "status": "False" if why else "True", "message": why}
            sealed["status"] = {"observedGeneration": sealed["metadata"]["generation"], "conditions": [condition]}
            sealed["metadata"]["managedFields"] = [
                {"manager": "controller", "subresource": "status", "time": self.now()}
            ]
            self.cluster.store(path, sealed)

    def _unseal(self, place: str, sealed: dict[str, Any]) -> str:
        try:
            values = self.open(sealed)
        except SealingError:
            return "no key could decrypt secret"
        there = self.cluster.objects.get(place)
        metadata = copy.deepcopy(sealed["spec"]["template"]["metadata"])
        own = {"kind": KIND, "name": metadata["name"], "uid": sealed["metadata"]["uid"], "controller": True}
        metadata["ownerReferences"] = [own]
        if there is not None:
            mine = any(each["uid"] == own["uid"] for each in there["metadata"].get("ownerReferences") or [])
            if not mine and (there["metadata"].get("annotations") or {}).get(MANAGED) != "true":
                return f'Resource "{metadata["name"]}" already exists and is not managed by SealedSecret'
            if there.get("immutable") and values != self.cluster.values(self.place(place)):
                return "the target Secret is immutable"
        data = {key: base64.b64encode(value).decode() for key, value in values.items()}
        immutable = sealed["spec"]["template"].get("immutable") if there is None else there.get("immutable")
        secret = {"kind": "Secret", "type": sealed["spec"]["template"]["type"], "data": data, "metadata": metadata}
        self.cluster.store(place, {**secret, **({"immutable": True} if immutable else {})})
        return ""

    @staticmethod
    def place(path: str) -> str:
        *_unused, namespace, _kind, name = path.split("/")
        return f"{namespace}/{name}"

    def secret(self, place: str) -> dict[str, Any]:
        return self.cluster.objects[secret_path(place)]

    def sealed(self, place: str) -> dict[str, Any]:
        return self.cluster.objects[sealed_path(place)]

    def file(self, place: str) -> Any:
        return self.folder / f"{place}.yaml"

    def by_hand(self, place: str, **values: bytes) -> None:
        """Write keys of a Secret as kubectl does."""
        secret = self.secret(place)
        for key, value in values.items():
            secret["data"][key] = base64.b64encode(value).decode()
        fields = {"f:data": {f"f:{key}": {} for key in values}}
        secret["metadata"]["managedFields"] = [{"manager": "kubectl-patch", "time": self.now(), "fieldsV1": fields}]
        self.cluster.store(secret_path(place), secret)


@pytest.fixture
def world(cluster, sealing_secrets, tmp_path):
    newest = sealing_secrets[-1]["data"]
    folder = tmp_path / "sealed"
    made = World(cluster, base64.b64decode(newest["tls.key"]), base64.b64decode(newest["tls.crt"]), folder)
    cluster.namespace("one", "two")
    return made
