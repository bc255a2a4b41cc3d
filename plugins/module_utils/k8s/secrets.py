# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a cluster: their type, and what reads and writes them.

Values stay in the process. No error of this file holds one: what an API server answers to a write is passed on only
where it has no value.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiError,
    KubeError,
    quoted,
)

ATTEMPTS = 10  # how often a Secret is read again because another writer wrote it at the same time
Result = TypeVar("Result")


class Conflict(Exception):
    """Another writer wrote a Secret between our reading and our writing: read again."""


def retried(attempt: Callable[[], Result], what: str, attempts: int = ATTEMPTS) -> Result:
    """Call a function until it meets no conflict, and give what it returns.

    Args:
        attempt: Reads, decides and writes; raises Conflict where another writer has written meanwhile.
        what: What is written, for the message.
        attempts: How often it is called at most.

    Raises:
        KubeError: Every attempt met a conflict.
    """
    for _attempt in range(attempts):
        try:
            return attempt()
        except Conflict:
            continue
    raise KubeError(f"{what} is changed by another writer all the time: gave up after {attempts} attempts")


@dataclass
class Secret:
    """A Secret, with its values decoded.

    Attributes:
        version: The resourceVersion, which a write must find unchanged; empty for one that is not in the cluster.
        metadata: The whole metadata as the API server gave them.
    """

    namespace: str
    name: str
    data: dict[str, bytes] = field(default_factory=dict, repr=False)
    type: str = "Opaque"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    immutable: bool = False
    version: str = ""
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_object(cls, found: dict[str, Any]) -> Secret:
        """Read what the API server gave."""
        metadata = found.get("metadata") or {}
        return cls(
            namespace=metadata.get("namespace") or "",
            name=metadata.get("name") or "",
            data={key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()},
            type=found.get("type") or "Opaque",
            labels=dict(metadata.get("labels") or {}),
            annotations=dict(metadata.get("annotations") or {}),
            immutable=bool(found.get("immutable")),
            version=metadata.get("resourceVersion") or "",
            metadata=metadata,
        )

    @property
    def where(self) -> str:
        """Namespace and name, for messages."""
        return f"{self.namespace}/{self.name}"

    @property
    def owners(self) -> list[dict[str, Any]]:
        """The owner references."""
        return self.metadata.get("ownerReferences") or []

    def manifest(self) -> dict[str, Any]:
        """Give the object that creates it."""
        metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace, "labels": self.labels}
        if self.annotations:
            metadata["annotations"] = self.annotations
        immutable = {"immutable": True} if self.immutable else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": self.type,
            "data": _encoded(self.data),
            **immutable,
        }


class Secrets:
    """The Secrets of a cluster.

    Args:
        api: Client of its API server.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    @staticmethod
    def path(namespace: str, name: str = "") -> str:
        """Give the path of a Secret in the API, or of all of a namespace."""
        return f"/api/v1/namespaces/{quoted(namespace)}/secrets" + (f"/{quoted(name)}" if name else "")

    def read(self, namespace: str, name: str) -> Secret | None:
        """Give a Secret; None where there is none."""
        found = self._api.find(self.path(namespace, name))
        return None if found is None else _placed(Secret.from_object(found), namespace, name)

    def list(self, selector: str, namespace: str = "") -> list[Secret]:
        """Give the Secrets that a label selector picks, of one namespace or of all."""
        path = self.path(namespace) if namespace else "/api/v1/secrets"
        return [Secret.from_object(each) for each in self._api.get(path, labelSelector=selector).get("items") or []]

    def create(self, secret: Secret) -> Secret:
        """Create a Secret, and give it as it is then. Of two at once, the API server lets only one through.

        Raises:
            Conflict: One of its name is there by now.
            KubeError: The API server refuses.
        """
        return self._write("POST", self.path(secret.namespace), secret.manifest(), secret, secret.data)

    def patch(
        self,
        secret: Secret,
        data: dict[str, bytes] | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Secret:
        """Write some keys, labels and annotations of a Secret, keep all others, and give it as it is then.

        A merge and not an apply, which would remove keys that an earlier version of the collection applied.

        Args:
            secret: What was read.
            data: Values by key.
            labels: Labels by name.
            annotations: Annotations by name.

        Raises:
            Conflict: It is no longer what was read.
            KubeError: The API server refuses.
        """
        body: dict[str, Any] = {"metadata": {"resourceVersion": secret.version}}
        body["metadata"] |= {"labels": labels} if labels else {}
        body["metadata"] |= {"annotations": annotations} if annotations else {}
        body |= {"data": _encoded(data)} if data else {}
        return self._write("PATCH", self.path(secret.namespace, secret.name), body, secret, data or {})

    def _write(self, method: str, path: str, body: dict[str, Any], secret: Secret, data: dict[str, bytes]) -> Secret:
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            written = self._api.json(method, path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=kind)
        except ApiError as error:
            if error.status == 409 or (method == "PATCH" and error.status == 404):
                raise Conflict from None
            detail = f": {error.detail}" if error.detail and not _holds(error.detail, data) else ""
            raise KubeError(
                f"Secret {secret.where} cannot be written, the API server answered with {error.status}{detail}"
            ) from None
        return _placed(Secret.from_object(written), secret.namespace, secret.name)


class NotThereYet(Exception):
    """In check mode: what an earlier task would have made is not there."""


class SecretValues:
    """Reads single values, each Secret once.

    Args:
        read: Gives a Secret by namespace and name.
        check_mode: Whether a Secret or key that is not there is taken for one to come.

    Attributes:
        values: What was given so far, to be hidden in a module's output.
    """

    def __init__(self, read: Callable[[str, str], Secret | None], check_mode: bool = False) -> None:
        self._read = read
        self._check_mode = check_mode
        self._known: dict[tuple[str, str], dict[str, bytes]] = {}
        self.values: set[str] = set()

    def text(self, namespace: str, name: str, key: str, purpose: str) -> str | None:
        """Give a value; None in check mode where it is still to come.

        Args:
            namespace: Namespace of the Secret.
            name: Its name.
            key: The key in it.
            purpose: What the value is, for messages, such as C(password).

        Raises:
            KubeError: It is not there, empty or no text.
        """
        where = (namespace, name)
        if where not in self._known:
            secret = self._read(namespace, name)
            self._known[where] = secret.data if secret else {}
        value = self._known[where].get(key)
        if not value:
            if self._check_mode:
                return None
            raise KubeError(f"Secret {namespace}/{name} has no key {key}, which is to hold the {purpose}")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise KubeError(f"Secret {namespace}/{name} has no text in its key {key}, the {purpose}") from None
        self.values.add(text)
        return text


def _placed(secret: Secret, namespace: str, name: str) -> Secret:
    """Give a Secret the place by which it was requested."""
    secret.namespace, secret.name = namespace, name
    return secret


def _encoded(data: dict[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}


def _holds(text: str, data: dict[str, bytes]) -> bool:
    """Whether a text holds one of the values, as it is or in base64."""
    forms = [value.decode("utf-8", "replace") for value in data.values()] + list(_encoded(data).values())
    return any(form in text for form in forms if form)
