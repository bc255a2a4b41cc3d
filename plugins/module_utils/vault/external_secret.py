# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ExternalSecrets: what the External Secrets operator makes Secrets from, here of entries of Vault.

The operator is an existing one, and so is the SecretStore or ClusterSecretStore that holds Vault's address. A
SecretStore names the mount, hence an ExternalSecret names an entry by its path within the mount.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
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

API_VERSION = "external-secrets.io/v1"
KIND = "ExternalSecret"
KINDS = ("SecretStore", "ClusterSecretStore")
OLDEST_OPERATOR = "0.16"  # the first one that serves this version
DEFAULT_REFRESH_INTERVAL = "1h0m0s"
DEFAULT_TIMEOUT = 120.0  # seconds
FORCE_SYNC = "mlops.mlflow/force-sync"  # an annotation; the operator synchronises when one changes
OPERATORS = "reconcile.external-secrets.io/"  # what the names of the operator's own labels begin with
MANAGED = f"{OPERATORS}managed"  # a label of each Secret that the operator writes


def manifest(
    namespace: str,
    name: str,
    keys: Iterable[str],
    *,
    store: dict[str, str],
    remote_key: str,
    labels: dict[str, str] | None = None,
    refresh_interval: str = DEFAULT_REFRESH_INTERVAL,
    secret_type: str = "Opaque",  # noqa: S107  a type of Kubernetes
) -> dict[str, Any]:
    """Give the ExternalSecret that makes a Secret of the same name.

    Args:
        keys: Names of all keys of the Secret: the operator takes away those that stand there beside them.
        store: C(name), and C(kind), by default V(SecretStore).
        remote_key: Path of the entry as the store sees it: within the mount.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {
            "refreshInterval": refresh_interval,
            "secretStoreRef": {"name": store["name"], "kind": store.get("kind") or KINDS[0]},
            "target": {
                "name": name,
                # The Secret has no owner, and outlives the ExternalSecret and the entry.
                "creationPolicy": "Orphan",
                "deletionPolicy": "Retain",
                # No data in the template: the values pass through as they are.
                "template": {"type": secret_type, "metadata": {"labels": dict(labels or {})}},
            },
            "data": [
                {"secretKey": key, "remoteRef": {"key": remote_key, "property": key}} for key in sorted(set(keys))
            ],
        },
    }


def readiness(found: dict[str, Any]) -> tuple[bool, str]:
    """Say whether the operator has done what an ExternalSecret of this generation asks for; and if not, why.

    The reason is empty where the operator has not processed it yet.
    """
    metadata, status = found.get("metadata") or {}, found.get("status") or {}
    ready: dict[str, Any] = next((each for each in status.get("conditions") or [] if each.get("type") == "Ready"), {})
    synced, _unused, _digest = str(status.get("syncedResourceVersion") or "").partition("-")
    if ready.get("status") == "True":
        return synced == str(metadata.get("generation")), ""
    # The condition has no generation: an old refusal may stand there while a new one is being thought about.
    message = " ".join(str(ready.get("message") or "").split()).rstrip(".")
    return False, f"{ready.get('reason') or 'NotReady'}{': ' + message if message else ''}" if ready else ""


class ExternalSecrets:
    """ExternalSecrets of a cluster.

    Args:
        api: Client of its API server.
        clock: Gives seconds, C(sleep) waits for them; for tests.
    """

    def __init__(
        self, api: Api, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Any] = time.sleep
    ) -> None:
        self._api = api
        self._clock = clock
        self._sleep = sleep

    @staticmethod
    def _path(namespace: str, name: str) -> str:
        return f"/apis/{API_VERSION}/namespaces/{quoted(namespace)}/externalsecrets/{quoted(name)}"

    def served(self) -> bool:
        """Say whether the cluster knows ExternalSecrets of this version."""
        served = self._api.find(f"/apis/{API_VERSION}") or {}
        return any(each.get("name") == "externalsecrets" for each in served.get("resources") or [])

    def verify(self) -> None:
        """Verify that the cluster knows ExternalSecrets.

        Raises:
            KubeError: It does not.
        """
        if not self.served():
            raise KubeError(
                f"vault_delivery is external_secrets, and the cluster serves no {API_VERSION}: install the External "
                f"Secrets operator, {OLDEST_OPERATOR} or newer, or set vault_delivery to secrets"
            )

    def find(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Give an ExternalSecret; None where there is none, or none can be."""
        return self._api.find(self._path(namespace, name))

    def apply(self, wanted: dict[str, Any], dry_run: bool = False) -> bool:
        """Apply an ExternalSecret, and say whether that changed it, or would.

        Raises:
            KubeError: The API server refuses it.
        """
        metadata = wanted["metadata"]
        before = self.find(metadata["namespace"], metadata["name"])
        try:
            after = self._api.json(
                "PATCH",
                self._path(metadata["namespace"], metadata["name"]),
                query={"fieldManager": FIELD_MANAGER, "force": "true", "dryRun": "All" if dry_run else None},
                body=wanted,
                content_type=APPLY_PATCH,
            )
        except ApiError as error:
            raise KubeError(
                f"ExternalSecret {metadata['namespace']}/{metadata['name']} cannot be written, the API server answered "
                f"with {error.status}{': ' + error.detail if error.detail else ''}"
            ) from None
        return before is None or _meant(before) != _meant(after)

    def force_sync(self, namespace: str, name: str) -> None:
        """Have the operator read the entry now: it does so by itself only after the refresh interval.

        A Secret that was deleted or changed by another writer comes back in the same way.
        """
        body = {"metadata": {"annotations": {FORCE_SYNC: str(time.time_ns())}}}
        self._api.json(
            "PATCH",
            self._path(namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type=MERGE_PATCH,
        )

    def wait_ready(
        self,
        namespace: str,
        name: str,
        timeout: float = DEFAULT_TIMEOUT,
        satisfied: Callable[[], bool] = lambda: True,
    ) -> None:
        """Wait until the operator has made the Secret.

        Args:
            satisfied: What must hold besides, such as that the Secret has the values which are in Vault.

        Raises:
            KubeError: It has not in time, with what the operator says.
        """
        deadline = self._clock() + timeout
        pause = 0.2
        while True:
            found = self.find(namespace, name)
            ready, why = readiness(found) if found else (False, "it is gone")
            if ready and satisfied():
                return
            if self._clock() >= deadline:
                if ready:
                    why = "it is Ready, but the Secret has not the values that are in Vault: is it the same Vault?"
                raise KubeError(
                    f"ExternalSecret {namespace}/{name} has not made its Secret within {timeout:g} s: "
                    + (why or "no operator has processed it, is the External Secrets operator running?")
                )
            self._sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def release(self, namespace: str, name: str, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """Delete an ExternalSecret and leave its Secret as it is; say whether there was one.

        Raises:
            KubeError: It is still there in the end.
        """
        found = self.find(namespace, name)
        if found is None:
            return False
        path = self._path(namespace, name)
        target = (found.get("spec") or {}).get("target") or {}
        if target.get("creationPolicy") != "Orphan" or target.get("deletionPolicy") not in (None, "Retain"):
            # It was made otherwise: the operator or the garbage collector would take the Secret along.
            policies = {"spec": {"target": {"creationPolicy": "Orphan", "deletionPolicy": "Retain"}}}
            self._api.json(
                "PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=policies, content_type=MERGE_PATCH
            )
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"}
        self._api.delete(path, body=options)
        deadline = self._clock() + timeout
        while self.find(namespace, name) is not None:
            if self._clock() >= deadline:
                raise KubeError(
                    f"ExternalSecret {namespace}/{name} has been on its way out for {timeout:g} s: "
                    "the External Secrets operator, which must let go of it, is not running"
                )
            self._sleep(0.5)
        return True


def _meant(found: dict[str, Any]) -> dict[str, Any]:
    """Give what a user or a role decides on in an ExternalSecret."""
    metadata = found.get("metadata") or {}
    return {"labels": metadata.get("labels") or {}, "spec": found.get("spec")}
