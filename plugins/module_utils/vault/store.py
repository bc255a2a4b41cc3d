# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials whose values live in Vault, and are delivered to a cluster.

One entry holds the values of a Secret, for any number of namespaces. They are delivered either as Secrets, by
the store of k8s/secret_store.py, or as ExternalSecrets, of which an existing operator makes Secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import KubeError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import (
    CentralWrite,
    KubernetesStore,
    Store,
    made_by,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.client import VaultKV
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import (
    KIND,
    OPERATORS,
    ExternalSecrets,
    manifest,
)


class VaultStore(Store):
    """Entries of Vault, and what delivers them.

    Args:
        vault: Client of the entries.
        delivery: The store that brings values into the cluster.
    """

    def __init__(self, vault: VaultKV, delivery: Store) -> None:
        self._vault = vault
        self._delivery = delivery
        self._found: dict[str, tuple[dict[str, bytes], int]] = {}
        self._others: dict[str, dict[str, bytes]] = {}
        self._complete: dict[str, bool] = {}  # whether Vault has all keys that are needed
        self._differing: dict[str, set[str]] = {}  # keys that have one value here and another one there

    def central(self, name: str, keys: Iterable[str]) -> dict[str, bytes]:
        self._others[name], self._differing[name] = {}, set()
        self._found[name] = self._vault.read(name, keys=tuple(keys))
        self._complete[name] = all(self._found[name][0].get(key) for key in keys)
        return self._found[name][0]

    def keep(self, name: str, values: dict[str, bytes], *, write: bool) -> CentralWrite | None:
        there, version = self._found[name]
        lacking = {key: value for key, value in values.items() if there.get(key) != value}
        others = {key: value for key, value in self._others[name].items() if key not in {**there, **values}}
        differing = self._differing[name] & set(others)
        if differing:
            raise KubeError(
                f"Secret {name} has different values in its key {min(differing)} from namespace to namespace, and its "
                f"one entry {self._vault.place(name)} in Vault cannot hold them all: make them alike, or remove the key"
            )
        lacking |= others
        if not lacking:
            return None
        if write:
            self._found[name] = ({**there, **lacking}, self._vault.write(name, lacking, version))
        return CentralWrite(self._vault.place(name), created=not there, updated=sorted(lacking) if there else [])

    def recoverable(self, namespace: str, name: str) -> bool:
        return not self._complete.get(name) and self._delivery.recoverable(namespace, name)

    def recover(self, namespace: str, name: str) -> Secret:
        return self._delivery.recover(namespace, name)

    def read(self, namespace: str, name: str) -> Secret | None:
        found = self._delivery.read(namespace, name)
        if found is not None and name in self._others and isinstance(self._delivery, ExternalStore):
            # The operator takes away what Vault lacks: keys that are there beside ours go there too.
            others = self._others[name]
            self._differing[name] |= {key for key in found.data if others.get(key, found.data[key]) != found.data[key]}
            self._others[name] = {**found.data, **others}
        return found

    def leave(self, namespace: str, name: str, *, issuer: Callable[[Secret], str], write: bool) -> list[str]:
        return self._delivery.leave(namespace, name, issuer=issuer, write=write)

    def drift(self, secret: Secret) -> list[str]:
        return self._delivery.drift(secret)

    def create(self, secret: Secret) -> None:
        self._delivery.create(secret)

    def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
        if isinstance(self._delivery, ExternalStore):
            # The operator writes all keys, those beside ours too, with what is in Vault.
            central = self._found[secret.name][0]
            secret = replace(secret, data={key: central.get(key, value) for key, value in secret.data.items()})
        self._delivery.update(secret, data, labels)

    def has_namespace(self, namespace: str) -> bool:
        return self._delivery.has_namespace(namespace)

    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        self._delivery.create_namespace(namespace, labels)


class ExternalStore(Store):
    """ExternalSecrets of a cluster, for values that are in Vault already.

    Args:
        secrets: The Secrets that come of them.
        external: The ExternalSecrets.
        vault: Where the values are.
        store: C(name) and C(kind) of the operator's store for that Vault.
    """

    def __init__(
        self, secrets: KubernetesStore, external: ExternalSecrets, vault: VaultKV, store: dict[str, str]
    ) -> None:
        self._secrets = secrets
        self._external = external
        self._vault = vault
        self._store = store

    def _manifest(self, secret: Secret) -> dict[str, Any]:
        labels = {label: value for label, value in secret.labels.items() if not label.startswith(OPERATORS)}
        return manifest(
            secret.namespace,
            secret.name,
            secret.data,
            store=self._store,
            remote_key=self._vault.key(secret.name),
            labels=labels,
            secret_type=secret.type,
        )

    def recoverable(self, namespace: str, name: str) -> bool:
        return self._secrets.recoverable(namespace, name)

    def recover(self, namespace: str, name: str) -> Secret:
        return self._secrets.recover(namespace, name)

    def read(self, namespace: str, name: str) -> Secret | None:
        return self._secrets.read(namespace, name)

    def leave(self, namespace: str, name: str, *, issuer: Callable[[Secret], str], write: bool) -> list[str]:
        return self._secrets.leave(namespace, name, issuer=issuer, write=write)

    def drift(self, secret: Secret) -> list[str]:
        owner = made_by(secret)
        if owner not in ("", KIND):
            return [f"released from its {owner}", "an ExternalSecret"]
        return ["an ExternalSecret"] if self._external.apply(self._manifest(secret), dry_run=True) else []

    def create(self, secret: Secret) -> None:
        self._deliver(secret)

    def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
        owner = made_by(secret)
        if owner not in ("", KIND):
            self._secrets.release(secret.namespace, secret.name, owner)
            raise Conflict  # it has another version by now
        self._deliver(replace(secret, data={**secret.data, **data}, labels={**secret.labels, **labels}))

    def _deliver(self, secret: Secret) -> None:
        """Have the operator make a Secret, and wait until it holds the values.

        Raises:
            KubeError: It does not in time.
        """

        def delivered() -> bool:
            found = self._secrets.read(secret.namespace, secret.name)
            return found is not None and found.data == secret.data

        self._external.apply(self._manifest(secret))
        self._external.force_sync(secret.namespace, secret.name)
        self._external.wait_ready(secret.namespace, secret.name, satisfied=delivered)

    def has_namespace(self, namespace: str) -> bool:
        return self._secrets.has_namespace(namespace)

    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        self._secrets.create_namespace(namespace, labels)
