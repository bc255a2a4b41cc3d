# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials whose values live in Vault, and are delivered to a cluster.

One entry holds the values of a Secret, whatever the number of its namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.mlops.mlflow.plugins.module_utils.secret_store import Kept, Store, Stored
from ansible_collections.mlops.mlflow.plugins.module_utils.vault import VaultKV


class VaultStore(Store):
    """Entries of Vault, and what delivers them.

    :param vault: client of the entries
    :param delivery: the store that brings values into the cluster
    """

    def __init__(self, vault: VaultKV, delivery: Store) -> None:
        self._vault = vault
        self._delivery = delivery
        self._found: dict[str, tuple[dict[str, bytes], int]] = {}

    def central(self, name: str, keys: Iterable[str]) -> dict[str, bytes]:
        self._found[name] = self._vault.read(name, keys=tuple(keys))
        return self._found[name][0]

    def keep(self, name: str, values: dict[str, bytes], *, write: bool) -> Kept | None:
        there, version = self._found[name]
        lacking = {key: value for key, value in values.items() if there.get(key) != value}
        if not lacking:
            return None
        if write:
            self._found[name] = ({**there, **values}, self._vault.write(name, lacking, version))
        return Kept(self._vault.place(name), created=not there, updated=sorted(lacking) if there else [])

    def read(self, namespace: str, name: str) -> Stored | None:
        return self._delivery.read(namespace, name)

    def drift(self, namespace: str, name: str, stored: Stored) -> list[str]:
        return self._delivery.drift(namespace, name, stored)

    def create(self, namespace: str, name: str, secret: Stored) -> None:
        self._delivery.create(namespace, name, secret)

    def update(self, namespace: str, name: str, secret: Stored, data: dict[str, bytes], labels: dict[str, str]) -> None:
        self._delivery.update(namespace, name, secret, data, labels)

    def has_namespace(self, namespace: str) -> bool:
        return self._delivery.has_namespace(namespace)

    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        self._delivery.create_namespace(namespace, labels)
