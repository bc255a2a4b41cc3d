# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where credentials are kept: what a store must do, and the store that is Kubernetes itself.

The stores of other backends are in sealed_store.py and vault_store.py.

Values stay in the process. No error of this file holds one: what an API server says about a write is passed on only
where no value stands in it.
"""

from __future__ import annotations

import base64
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    APPLY_PATCH,
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiError,
    KubeError,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import Controller, owned
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import KIND as SEALED_SECRET
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import KIND as EXTERNAL_SECRET
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import MANAGED as EXTERNALLY_MANAGED
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import OPERATORS, ExternalSecrets

TERMINATING_TIMEOUT = 120.0  # seconds that a namespace may take to be gone before its Secrets are made again


class Changed(Exception):
    """Somebody else wrote a Secret between our reading and our writing: read again."""


@dataclass
class Stored:
    """A Secret as it is kept."""

    type: str
    data: dict[str, bytes] = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    immutable: bool = False
    version: str = ""  # what a write must find unchanged
    annotations: dict[str, str] = field(default_factory=dict)
    owner: str = ""  # the kind that makes it, SealedSecret or ExternalSecret; empty where it stands alone
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Kept:
    """What was done in the central place of a Secret's values."""

    path: str
    created: bool = False
    updated: list[str] = field(default_factory=list)


class Store(ABC):
    """Keeps Secrets, named by namespace and name."""

    def central(self, name: str, keys: Iterable[str]) -> dict[str, bytes]:
        """Give the values of a Secret that are kept outside of the cluster and win over those in it; none here.

        :param keys: the keys that are needed
        """
        return {}

    def keep(self, name: str, values: dict[str, bytes], *, write: bool) -> Kept | None:
        """Write a Secret's values where C(central) reads them, before they are delivered; None where nothing is to do.

        :param write: false only says what would be done
        :raises Changed: somebody else has written there since
        """
        return None

    def recoverable(self, namespace: str, name: str) -> bool:
        """Say whether a Secret that is not in the cluster can be had from what this store keeps of it."""
        return False

    def recover(self, namespace: str, name: str) -> Stored:
        """Bring back a Secret that is recoverable.

        :raises KubeError: it cannot be
        """
        raise NotImplementedError

    def drift(self, namespace: str, name: str, stored: Stored) -> list[str]:
        """Say in a few words each what differs in the way a Secret is kept from how this store keeps it."""
        return []

    def check(self) -> None:
        """See that what is about to be written can be written, before anything is.

        :raises KubeError: it cannot be
        """
        return

    @abstractmethod
    def read(self, namespace: str, name: str) -> Stored | None:
        """Give a Secret, or None where there is none."""

    @abstractmethod
    def create(self, namespace: str, name: str, secret: Stored) -> None:
        """Write a Secret that is not there.

        :raises Changed: it is there by now
        """

    @abstractmethod
    def update(self, namespace: str, name: str, secret: Stored, data: dict[str, bytes], labels: dict[str, str]) -> None:
        """Write some keys and labels of a Secret, keep all others, and mend what C(drift) says.

        :param secret: what was read
        :raises Changed: it is no longer what was read
        """

    @abstractmethod
    def has_namespace(self, namespace: str) -> bool:
        """Say whether a namespace is there, and not on its way out."""

    @abstractmethod
    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        """Make a namespace, waiting for one of that name to be gone if it is being deleted."""


class KubernetesStore(Store):
    """Secrets of a cluster.

    :param api: client of its API server
    :param clock: gives seconds, C(sleep) waits for them; for tests
    """

    def __init__(self, api: Api, clock: Any = time.monotonic, sleep: Any = time.sleep) -> None:
        self._api = api
        self._clock = clock
        self._sleep = sleep

    @staticmethod
    def _path(namespace: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{quoted(namespace)}/secrets" + (f"/{quoted(name)}" if name else "")

    def read(self, namespace: str, name: str) -> Stored | None:
        found = self._api.find(self._path(namespace, name))
        if found is None:
            return None
        metadata = found.get("metadata") or {}
        return Stored(
            type=found.get("type") or "Opaque",
            data={key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()},
            labels=metadata.get("labels") or {},
            immutable=bool(found.get("immutable")),
            version=metadata.get("resourceVersion") or "",
            annotations=metadata.get("annotations") or {},
            owner=_owner(metadata),
            metadata=metadata,
        )

    def recoverable(self, namespace: str, name: str) -> bool:
        try:
            return self._controller().find(namespace, name) is not None
        except ApiError as error:
            if error.status == 403:  # who works with Secrets only may not see SealedSecrets
                return False
            raise

    def recover(self, namespace: str, name: str) -> Stored:
        # The controller makes it soon: a value of ours would be another one.
        controller = self._controller()
        controller.wait_synced(namespace, name)
        controller.wait_secret(namespace, name)
        stored = self.read(namespace, name)
        if stored is None:
            raise Changed  # it is gone again
        return stored

    def _controller(self) -> Controller:
        """Give what is known of SealedSecrets: the controller itself is not asked."""
        return Controller(self._api, "sealed-secrets", clock=self._clock, sleep=self._sleep)

    def drift(self, namespace: str, name: str, stored: Stored) -> list[str]:
        return [f"released from its {stored.owner}"] if stored.owner else []

    def create(self, namespace: str, name: str, secret: Stored) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "labels": secret.labels},
            "type": secret.type,
            "data": _encode(secret.data),
        }
        # A create and not an apply: of two at once, the API server lets only one through.
        self._write("POST", self._path(namespace), body, where=f"{namespace}/{name}", data=secret.data)

    def update(self, namespace: str, name: str, secret: Stored, data: dict[str, bytes], labels: dict[str, str]) -> None:
        if secret.owner:
            self.release(namespace, name, secret.owner)
            if not data and not labels:
                return
            raise Changed  # it has another version by now
        # A merge and not an apply, which would take away keys that an earlier version of us applied.
        body = {
            "metadata": {"resourceVersion": secret.version, **({"labels": labels} if labels else {})},
            **({"data": _encode(data)} if data else {}),
        }
        self._write("PATCH", self._path(namespace, name), body, where=f"{namespace}/{name}", data=data)

    def release(self, namespace: str, name: str, owner: str) -> None:
        """Delete what makes a Secret, and leave the Secret as it is.

        :param owner: C(SealedSecret) or C(ExternalSecret)
        """
        if owner == SEALED_SECRET:
            self._controller().release(namespace, name)
            return
        ExternalSecrets(self._api, clock=self._clock, sleep=self._sleep).release(namespace, name)
        found = self._api.find(self._path(namespace, name)) or {}
        left = [each for each in (found.get("metadata") or {}).get("labels") or {} if each.startswith(OPERATORS)]
        self._api.json(
            "PATCH",
            self._path(namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"labels": dict.fromkeys(left)}},
            content_type=MERGE_PATCH,
        )

    def _write(self, method: str, path: str, body: dict[str, Any], *, where: str, data: dict[str, bytes]) -> None:
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            self._api.json(method, path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=kind)
        except ApiError as error:
            if error.status == 409 or (method == "PATCH" and error.status == 404):
                raise Changed from None
            detail = f": {error.detail}" if error.detail and not _holds(error.detail, data) else ""
            raise KubeError(
                f"Secret {where} cannot be written, the API server answered with {error.status}{detail}"
            ) from None

    def has_namespace(self, namespace: str) -> bool:
        return self._phase(namespace) == "Active"

    def _phase(self, namespace: str) -> str:
        """Give C(Active), C(Terminating), or nothing where the namespace is not there."""
        try:
            found = self._api.find(f"/api/v1/namespaces/{quoted(namespace)}")
        except ApiError as error:
            if error.status == 403:  # who works in namespaces that somebody else made may not see them
                return "Active"
            raise
        if found is None:
            return ""
        return "Terminating" if (found.get("metadata") or {}).get("deletionTimestamp") else "Active"

    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        deadline = self._clock() + TERMINATING_TIMEOUT
        while self._phase(namespace) == "Terminating":
            if self._clock() >= deadline:
                raise KubeError(
                    f"namespace {namespace} has been on its way out for {TERMINATING_TIMEOUT:g} s: "
                    f"see what holds it with 'kubectl describe namespace {namespace}'"
                )
            self._sleep(1)
        # Applied, so that the role which applies the Namespace in full later owns the same fields.
        self._api.json(
            "PATCH",
            f"/api/v1/namespaces/{quoted(namespace)}",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
            content_type=APPLY_PATCH,
        )


def _owner(metadata: dict[str, Any]) -> str:
    """Give the kind that makes a Secret; empty where none of those that we know does."""
    if owned({"metadata": metadata}):
        return SEALED_SECRET
    return EXTERNAL_SECRET if EXTERNALLY_MANAGED in (metadata.get("labels") or {}) else ""


def _encode(data: dict[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}


def _holds(text: str, data: dict[str, bytes]) -> bool:
    """Say whether a text holds one of the values, as it is or in base64."""
    forms = [value.decode("utf-8", "replace") for value in data.values()] + list(_encode(data).values())
    return any(form in text for form in forms if form)
