# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that are kept as SealedSecrets, in the cluster and on request in files for git.

A file always holds what the SealedSecret in the cluster holds. So whether a file seals the right values shows without
opening it: the controller has opened the same in the cluster, and the Secret that came of it is there to compare with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import ApiError, KubeError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore, Store, made_by
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing import files as sealed_files
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import (
    Controller,
    advice,
    edited,
    synced,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    KIND,
    STRICT,
    SealingError,
    bare,
    dump,
    label,
    load,
    manifest,
    scope_of,
    seal,
    without_scope,
)


@dataclass
class _UnsealedSecret(Secret):
    """A Secret with the SealedSecret of its name, if there is one."""

    sealed: dict[str, Any] | None = field(default=None, repr=False)


class SealedStore(Store):
    """SealedSecrets of a cluster, and the Secrets that come of them.

    Args:
        secrets: The Secrets themselves.
        controller: Who unseals.
        output_dir: The directory with a file C(NAMESPACE/NAME.yaml) for each SealedSecret; empty for none.
        scope: What new sealed values are bound to.
    """

    def __init__(
        self, secrets: KubernetesStore, controller: Controller, output_dir: str = "", scope: str = STRICT
    ) -> None:
        self._secrets = secrets
        self._controller = controller
        self._output_dir = os.path.expanduser(output_dir)
        self._scope = scope

    def close(self) -> None:
        self._secrets.close()

    # --- reading

    def read(self, namespace: str, name: str) -> Secret | None:
        # First the SealedSecret: a write must find it unchanged, so that it seals no older values.
        sealed = self._controller.find(namespace, name)
        found = self._secrets.read(namespace, name)
        if found is not None and sealed is not None and not synced(sealed)[0]:
            sealed = self.settled(namespace, name)
            found = self._secrets.read(namespace, name)
        return None if found is None else _UnsealedSecret(**vars(found), sealed=sealed)

    def settled(self, namespace: str, name: str) -> dict[str, Any]:
        """Wait until the controller has opened a SealedSecret or refused it: before, its Secret has older values."""
        try:
            return self._controller.wait_synced(namespace, name)
        except KubeError:
            sealed = self._controller.find(namespace, name)
            if sealed is None or synced(sealed)[0] != "False":
                raise
            return sealed

    def has_namespace(self, namespace: str) -> bool:
        return self._secrets.has_namespace(namespace)

    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        self._secrets.create_namespace(namespace, labels)

    def _path(self, namespace: str, name: str) -> str:
        return os.path.join(self._output_dir, namespace, f"{name}.yaml") if self._output_dir else ""

    def _file(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read the sealed file of a Secret; None where there is none.

        Raises:
            KubeError: It cannot be read, or holds something else.
        """
        path = self._path(namespace, name)
        if not path:
            return None
        try:
            text = sealed_files.read(path, "the sealed file")
            if text is None:
                return None
            sealed = load(text, f"the sealed file {path}")
        except SealingError as error:
            raise KubeError(str(error)) from None
        metadata = sealed["metadata"]
        if (metadata.get("namespace"), metadata["name"]) != (namespace, name):
            raise KubeError(
                f"the sealed file {path} is of {metadata.get('namespace')}/{metadata['name']}, and its place is that "
                f"of {namespace}/{name}: a SealedSecret is moved by sealing its values again"
            )
        return sealed

    def recoverable(self, namespace: str, name: str) -> bool:
        return self._controller.find(namespace, name) is not None or self._file(namespace, name) is not None

    def recover(self, namespace: str, name: str) -> Secret:
        file = self._file(namespace, name)
        source = f"SealedSecret {namespace}/{name}"
        if self._controller.find(namespace, name) is None and file is not None:
            source = f"the sealed file {self._path(namespace, name)}"
            if not self._controller.opens(file):
                raise KubeError(f"{source} is of no use: {advice('no key could decrypt')}")
            try:
                self._controller.create(bare(file))
            except ApiError as error:
                if error.status != 409:  # another writer was faster
                    raise
        try:
            self._controller.wait_synced(namespace, name)
        except KubeError as error:
            raise KubeError(f"{source} is of no use: {error}") from None
        self._controller.wait_secret(namespace, name)
        stored = self.read(namespace, name)
        if stored is None:
            raise Conflict  # it is gone again
        return stored

    # --- writing

    def drift(self, secret: Secret) -> list[str]:
        sealed = secret.sealed if isinstance(secret, _UnsealedSecret) else None
        words = []
        why = self._unfit(sealed, secret)
        if why:
            words.append(why)
        if self._output_dir:
            file = self._file(secret.namespace, secret.name)
            if why or file is None or not _same(file, sealed or {}):
                words.append(f"file {self._path(secret.namespace, secret.name)}")
        return words

    def _unfit(self, sealed: dict[str, Any] | None, stored: Secret) -> str:
        """Say why a SealedSecret has to be made again; empty where it may stay."""
        if sealed is None:
            return "sealed"
        state, _why = synced(sealed)
        beside = state == "True" and edited({"metadata": stored.metadata}, sealed)
        for is_so, words in (
            (not owns(sealed, stored), "sealed again, and owned by its SealedSecret"),
            (scope_of(sealed) != self._scope, f"sealed again, {self._scope}"),
            (set(sealed["spec"].get("encryptedData") or {}) != set(stored.data), "sealed again, with all keys"),
            (state == "False", "sealed again, since the controller cannot open it"),
            (beside, "sealed again, since a value was changed beside it"),
        ):
            if is_so:
                return words
        return ""

    def create(self, secret: Secret) -> None:
        self.write(self._seal(secret, secret.data, {}), None)
        self._write_file(secret.namespace, secret.name, self.confirmed(secret.namespace, secret.name, secret.data))

    def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
        namespace, name, owner = secret.namespace, secret.name, made_by(secret)
        if owner not in ("", KIND):
            self.check()
            self._secrets.release(namespace, name, owner)
            raise Conflict  # it has another version by now
        old = secret.sealed if isinstance(secret, _UnsealedSecret) else None
        unfit = self._unfit(old, secret)
        values = {**secret.data, **data}
        if not data and not labels and not unfit:
            self._write_file(namespace, name, old or {})
            return
        kept = {} if unfit or old is None else old["spec"]["encryptedData"]
        to_seal = {key: value for key, value in values.items() if key in data or key not in kept}
        wanted = replace(
            secret, labels={**secret.labels, **labels}, annotations=without_scope(secret.annotations), data=values
        )
        sealed = self._seal(wanted, to_seal, kept)
        taken_over = None if old is not None and owns(old, secret) else secret
        # An owner that is gone would take the Secret along.
        left = [each for each in secret.owners if each.get("kind") != KIND] if owner else None
        if old is not None:
            # What a user has set on it stays.
            own = {**bare(old)["metadata"], "annotations": sealed["metadata"].get("annotations") or {}}
            own["annotations"] |= without_scope(old["metadata"].get("annotations"))
            sealed = {**sealed, "metadata": own}
        self.write(sealed, old, taken_over, left)
        self._write_file(namespace, name, self.confirmed(namespace, name, values))

    def leave(self, namespace: str, name: str, *, issuer: Callable[[Secret], str], write: bool) -> list[str]:
        words = self._secrets.leave(namespace, name, issuer=issuer, write=write)
        path = self._path(namespace, name)
        if not path or not os.path.exists(path):
            return words
        # Who applies the files would make the SealedSecret again.
        if write:
            try:
                sealed_files.remove(path)
            except SealingError as error:
                raise KubeError(str(error)) from None
        return [*words, f"file {path} removed"]

    def write(
        self,
        sealed: dict[str, Any],
        old: dict[str, Any] | None,
        taken_over: Secret | None = None,
        owners: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Write a SealedSecret, and give it as it is then.

        Args:
            old: The one that is there, as it was read.
            taken_over: The Secret of its name, where the controller is to take that over.
            owners: Who owns that Secret from now on; None leaves that as it is.

        Raises:
            Conflict: One of both is no longer what was read.
        """
        try:
            if taken_over is not None:
                self._controller.take_over(taken_over.namespace, taken_over.name, taken_over.version, owners)
            if old is None:
                return self._controller.create(sealed)
            return self._controller.replace(sealed, old["metadata"]["resourceVersion"])
        except ApiError as error:
            if error.status in (404, 409):
                raise Conflict from None
            raise

    def confirmed(self, namespace: str, name: str, values: dict[str, bytes]) -> dict[str, Any]:
        """Wait until a Secret holds the values, and give its SealedSecret.

        Raises:
            Conflict: It holds others, of another writer.
        """
        sealed = self._controller.wait_synced(namespace, name)
        found = self._secrets.read(namespace, name)
        if found is None or any(found.data.get(key) != value for key, value in values.items()):
            raise Conflict
        return sealed

    def opened(self, sealed: dict[str, Any]) -> bool:
        """Say whether sealed values may stay: the scope is the requested one, and the controller opens them."""
        return scope_of(sealed) == self._scope and synced(sealed)[0] != "False"

    def check(self) -> None:
        try:
            self._controller.certificate()
        except SealingError as error:
            raise KubeError(f"nothing can be sealed: {error}") from None

    def _seal(self, secret: Secret, values: dict[str, bytes], kept: dict[str, str]) -> dict[str, Any]:
        """Build a SealedSecret of values that are sealed now and of others that were before."""
        try:
            certificate = self._controller.certificate()
            bound_to = label(self._scope, secret.namespace, secret.name)
            encrypted = {**kept, **{key: seal(certificate, value, bound_to) for key, value in values.items()}}
        except SealingError as error:
            raise KubeError(f"Secret {secret.where} cannot be sealed: {error}") from None
        return manifest(
            secret.namespace,
            secret.name,
            encrypted,
            type=secret.type,
            labels=secret.labels,
            annotations=secret.annotations,
            scope=self._scope,
            immutable=secret.immutable,
        )

    def _write_file(self, namespace: str, name: str, sealed: dict[str, Any]) -> None:
        """Write the sealed file, whole or not at all."""
        path = self._path(namespace, name)
        if not path:
            return
        try:
            sealed_files.write(path, dump(sealed), "the sealed file")
        except SealingError as error:
            raise KubeError(str(error)) from None


def owns(sealed: dict[str, Any], secret: Secret) -> bool:
    """Say whether a Secret belongs to this very SealedSecret, and not to one of its name that was there before."""
    uid = sealed["metadata"].get("uid")
    return any(each.get("kind") == KIND and each.get("uid") == uid for each in secret.owners)


def _same(file: dict[str, Any], sealed: dict[str, Any]) -> bool:
    """Say whether a file gives the same Secret as a SealedSecret: labels of its own may differ."""
    return (bare(file)["spec"], scope_of(file)) == (bare(sealed)["spec"], scope_of(sealed))
