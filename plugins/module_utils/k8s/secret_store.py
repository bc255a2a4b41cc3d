# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where credentials are kept: what a store must do, and the store that is Kubernetes itself.

The stores of other backends are in sealing/store.py and vault/store.py. Values stay in the process.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
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
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret, Secrets
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import Controller, owned
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import KIND as SEALED_SECRET
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import KIND as EXTERNAL_SECRET
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import MANAGED as EXTERNALLY_MANAGED
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import OPERATORS, ExternalSecrets

# cert-manager's kind, and its annotation and label of a Secret that it makes: https://cert-manager.io/docs/reference/annotations/
CERTIFICATE = "Certificate"
CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/{namespace}/certificates/{name}"
CERTIFICATE_NAME = "cert-manager.io/certificate-name"
ISSUER_NAME = "cert-manager.io/issuer-name"
CERT_MANAGER = "cert-manager.io/"
# Noted as the Issuer of what an Issuer has to make again. No Issuer has this name: it has an underscore.
NO_ISSUER = "no_issuer"

TERMINATING_TIMEOUT = 120.0  # seconds that a namespace may take to be gone before its Secrets are made again


@dataclass
class CentralWrite:
    """What was written where a Secret's values are kept outside of the cluster.

    Attributes:
        path: The entry.
        created: Whether the entry was not there.
        updated: Names of the keys that were added to it or changed in it.
    """

    path: str
    created: bool = False
    updated: list[str] = field(default_factory=list)


class Store(ABC):
    """Keeps Secrets, named by namespace and name."""

    def central(self, name: str, keys: Iterable[str]) -> dict[str, bytes]:
        """Give the values of a Secret that are kept outside of the cluster and win over those in it; none here.

        Args:
            keys: The keys that are needed.
        """
        return {}

    def keep(self, name: str, values: dict[str, bytes], *, write: bool) -> CentralWrite | None:
        """Write a Secret's values where C(central) reads them, before they are delivered; None where nothing is to do.

        Args:
            write: False only says what would be done.

        Raises:
            Conflict: Another writer has written there since.
        """
        return None

    def recoverable(self, namespace: str, name: str) -> bool:
        """Say whether a Secret that is not in the cluster can be restored from what this store keeps of it."""
        return False

    def recover(self, namespace: str, name: str) -> Secret:
        """Bring back a Secret that is recoverable.

        Raises:
            KubeError: It cannot be.
        """
        raise NotImplementedError

    def drift(self, secret: Secret) -> list[str]:
        """Say in a few words each what differs in the way a Secret is kept from how this store keeps it."""
        return []

    def leave(self, namespace: str, name: str, *, issuer: Callable[[Secret], str], write: bool) -> list[str]:
        """Leave a Secret to cert-manager: delete what else makes it here, and keep its values until they are replaced.

        Args:
            issuer: The name of the Issuer that is noted as the one that made it. cert-manager makes it again where that
                is not the one of its Certificate, and would adopt it where none is noted.
            write: False only says what would be done.

        Returns:
            In a few words each what that takes.
        """
        raise NotImplementedError

    def check(self) -> None:
        """See that what is about to be written can be written, before anything is.

        Raises:
            KubeError: It cannot be.
        """
        return

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        return

    @abstractmethod
    def read(self, namespace: str, name: str) -> Secret | None:
        """Give a Secret, or None where there is none."""

    @abstractmethod
    def create(self, secret: Secret) -> None:
        """Write a Secret that is not there.

        Raises:
            Conflict: It is there by now.
        """

    @abstractmethod
    def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
        """Write some keys and labels of a Secret, keep all others, and correct what C(drift) says.

        Args:
            secret: What was read.

        Raises:
            Conflict: It is no longer what was read.
        """

    @abstractmethod
    def has_namespace(self, namespace: str) -> bool:
        """Say whether a namespace is there, and not on its way out."""

    @abstractmethod
    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        """Make a namespace, waiting for one of that name to be gone if it is being deleted."""


class KubernetesStore(Store):
    """Secrets of a cluster.

    Args:
        api: Client of its API server.
        clock: Gives seconds, C(sleep) waits for them; for tests.
    """

    def __init__(self, api: Api, clock: Any = time.monotonic, sleep: Any = time.sleep) -> None:
        self._api = api
        self._secrets = Secrets(api)
        self._clock = clock
        self._sleep = sleep

    def close(self) -> None:
        self._api.close()

    def read(self, namespace: str, name: str) -> Secret | None:
        return self._secrets.read(namespace, name)

    def recoverable(self, namespace: str, name: str) -> bool:
        try:
            return self._controller().find(namespace, name) is not None
        except ApiError as error:
            if error.status == 403:  # who works with Secrets only may not see SealedSecrets
                return False
            raise

    def recover(self, namespace: str, name: str) -> Secret:
        # The controller makes it soon: a value of ours would be another one.
        controller = self._controller()
        controller.wait_synced(namespace, name)
        controller.wait_secret(namespace, name)
        stored = self.read(namespace, name)
        if stored is None:
            raise Conflict  # it is gone again
        return stored

    def _controller(self) -> Controller:
        """Give what is known of SealedSecrets: the controller itself is not asked."""
        return Controller(self._api, "sealed-secrets", clock=self._clock, sleep=self._sleep)

    def drift(self, secret: Secret) -> list[str]:
        owner = made_by(secret)
        return [f"released from its {owner}"] if owner else []

    def create(self, secret: Secret) -> None:
        self._secrets.create(secret)

    def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
        owner = made_by(secret)
        if owner:
            self.release(secret.namespace, secret.name, owner)
            if not data and not labels:
                return
            raise Conflict  # it has another version by now
        self._secrets.patch(secret, data, labels)

    def leave(self, namespace: str, name: str, *, issuer: Callable[[Secret], str], write: bool) -> list[str]:
        words = []
        for kind, find in ((SEALED_SECRET, self._controller().find), (EXTERNAL_SECRET, self._external().find)):
            try:
                if find(namespace, name) is None:
                    continue
            except ApiError as error:
                if error.status == 403:  # who may not see them has made none
                    continue
                raise
            if write:
                self.release(namespace, name, kind)
            words.append(f"released from its {kind}")
        found = self.read(namespace, name)
        if found is not None and (noted := issuer(found)) != found.annotations.get(ISSUER_NAME):
            if write:
                self._secrets.patch(found, annotations={ISSUER_NAME: noted})
            words.append("to be issued again" if noted == NO_ISSUER else "adopted by its Issuer")
        return words

    def release(self, namespace: str, name: str, owner: str) -> None:
        """Delete what makes a Secret, and leave the Secret as it is.

        Args:
            owner: C(SealedSecret), C(ExternalSecret) or C(Certificate).
        """
        if owner == SEALED_SECRET:
            self._controller().release(namespace, name)
            return
        found = self.read(namespace, name)
        if owner == CERTIFICATE and found is not None:
            its = quoted(found.annotations.get(CERTIFICATE_NAME, name))
            self._api.delete(CERTIFICATES.format(namespace=quoted(namespace), name=its))
        elif owner == EXTERNAL_SECRET:
            self._external().release(namespace, name)
            found = self.read(namespace, name)
        if found is None:
            return
        marks = (OPERATORS, CERT_MANAGER, f"controller.{CERT_MANAGER}")
        metadata: dict[str, Any] = {
            "labels": {each: None for each in found.labels if each.startswith(marks)},
            "annotations": {each: None for each in found.annotations if each.startswith(marks)},
        }
        if owner == CERTIFICATE:
            # An owner that is gone would take the Secret along.
            metadata["ownerReferences"] = [each for each in found.owners if each.get("kind") != CERTIFICATE]
        self._api.json(
            "PATCH",
            Secrets.path(namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": metadata},
            content_type=MERGE_PATCH,
        )

    def _external(self) -> ExternalSecrets:
        return ExternalSecrets(self._api, clock=self._clock, sleep=self._sleep)

    def has_namespace(self, namespace: str) -> bool:
        return self._phase(namespace) == "Active"

    def _phase(self, namespace: str) -> str:
        """Give C(Active), C(Terminating), or nothing where the namespace is not there."""
        try:
            found = self._api.find(f"/api/v1/namespaces/{quoted(namespace)}")
        except ApiError as error:
            if error.status == 403:  # an account that works in existing namespaces may not be allowed to read them
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


def made_by(secret: Secret) -> str:
    """Give the kind that makes a Secret, SealedSecret, ExternalSecret or Certificate; empty where none does."""
    if owned({"metadata": secret.metadata}):
        return SEALED_SECRET
    if EXTERNALLY_MANAGED in secret.labels:
        return EXTERNAL_SECRET
    return CERTIFICATE if CERTIFICATE_NAME in secret.annotations else ""
