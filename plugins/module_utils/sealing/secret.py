# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One SealedSecret as it is requested: in the cluster with its file, or in a file alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import generate
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiError,
    KubeError,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret, Secrets, retried
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing import files
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import Controller, edited, synced
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    KIND,
    Certificate,
    SealingError,
    bare,
    dump,
    label,
    load,
    manifest,
    scope_annotations,
    scope_of,
    seal,
    without_scope,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.store import SealedStore, owns

LARGEST = 1024 * 1024  # bytes of a Secret, as the API server takes it


@dataclass
class KeySource:
    """How a key gets its value: supplied, or from another Secret, or else what is there, or else generated."""

    name: str
    supplied: bytes | None = field(default=None, repr=False)
    secret: tuple[str, str, str] | None = None  # namespace, name, key
    generate: str = ""
    length: int = 0


@dataclass
class SealedSecretRequest:
    """The requested SealedSecret."""

    namespace: str
    name: str
    keys: list[KeySource]
    type: str
    labels: dict[str, str]
    annotations: dict[str, str]
    immutable: bool | None
    scope: str
    path: str
    digest_key: bytes | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """Namespace and name, for messages."""
        return f"{self.namespace}/{self.name}"


@dataclass
class SealedSecretResult:
    """What was done, in names."""

    changed: bool = False
    key_names: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    taken_over: bool = False
    certificate: str = ""
    synced: bool = False
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Sealing:
    """What sealing in a cluster and in a file have in common.

    Args:
        wanted: What is requested.
        certificate: Gives the certificate to seal with.
        read: Gives a Secret by namespace and name; None for all where no cluster is asked.
        check_mode: Whether nothing is written.
    """

    def __init__(
        self,
        wanted: SealedSecretRequest,
        certificate: Callable[[], Certificate],
        read: Callable[[str, str], Secret | None],
        *,
        check_mode: bool,
    ) -> None:
        self._wanted = wanted
        self._certificate = certificate
        self._read = read
        self._check_mode = check_mode
        self._generated: dict[str, bytes] = {}
        self._others: dict[tuple[str, str, str], bytes] = {}
        self.result = SealedSecretResult()

    def _file(self) -> dict[str, Any] | None:
        """Read the sealed file; None where there is none.

        Raises:
            SealingError: It holds something else.
        """
        wanted = self._wanted
        text = files.read(wanted.path) if wanted.path else None
        if text is None:
            return None
        sealed = load(text, f"the file {wanted.path}")
        its = f"{sealed['metadata'].get('namespace') or wanted.namespace}/{sealed['metadata']['name']}"
        if its != wanted.where:
            raise SealingError(
                f"the file {wanted.path} holds SealedSecret {its}, and not {wanted.where}: take another path, or "
                "remove the file"
            )
        return sealed

    # --- values

    def _declared(self, key: KeySource) -> bytes | None:
        """Give the value that replaces the existing one; None where that stays."""
        if key.secret is None:
            return key.supplied
        if key.secret not in self._others:
            namespace, name, inner = key.secret
            found = self._read(namespace, name)
            if found is None:
                sentence = f"keys.{key.name}.secret names Secret {namespace}/{name}, which is not there"
                if not self._check_mode:
                    raise KubeError(sentence)
                self.result.warnings.append(f"{sentence}: it has to be made first")  # by an earlier task, perhaps
            data = {inner: b"not known yet"} if found is None else found.data
            if not data.get(inner):
                raise KubeError(
                    f"keys.{key.name}.secret names the key {inner} of Secret {namespace}/{name}: "
                    f"it has {', '.join(sorted(each for each in data if data[each])) or 'no keys'}"
                )
            self._others[key.secret] = data[inner]
        return self._others[key.secret]

    def _fresh(self, key: KeySource) -> bytes:
        return self._generated.setdefault(key.name, generate(key.generate, key.length))

    def _check(self, secret: Secret | None, values: dict[str, bytes]) -> None:
        """See that a Secret can become what is requested.

        Raises:
            KubeError: Of what cannot be changed, something would have to be, or the values are too large.
        """
        wanted, where = self._wanted, f"Secret {self._wanted.where}"
        total = sum(map(len, values.values()))
        if total > LARGEST:
            raise KubeError(f"the values of {wanted.where} have {total} bytes, and a Secret has {LARGEST} at most")
        if secret is None:
            return
        if wanted.type not in ("", secret.type):
            raise KubeError(
                f"{where} is of type {secret.type} and must be {wanted.type}, which cannot be changed: delete it first"
            )
        other = sorted(key for key, value in values.items() if secret.data.get(key) != value)
        if secret.immutable and other:
            raise KubeError(f"{where} is immutable, so that its key {other[0]} cannot be written: delete it first")
        if secret.immutable and wanted.immutable is False:
            raise KubeError(f"{where} is immutable, which cannot be undone: delete it first")
        for owner in secret.owners:
            if owner.get("controller") and owner.get("kind") != KIND:
                raise KubeError(
                    f"{where} belongs to {owner.get('kind')} {owner.get('name')}, which would write it again: remove "
                    "that first"
                )

    # --- the SealedSecret

    def _seal(self, values: dict[str, bytes]) -> dict[str, str]:
        """Seal values, unless none is there."""
        if not values:
            return {}
        certificate = self._certificate()
        self.result.certificate = certificate.fingerprint
        bound_to = label(self._wanted.scope, self._wanted.namespace, self._wanted.name)
        return {key: seal(certificate, value, bound_to) for key, value in values.items()}

    def _build(self, base: dict[str, Any] | None, secret: Secret | None, encrypted: dict[str, str]) -> dict[str, Any]:
        """Build the SealedSecret from the one that is there or else from a Secret without one."""
        wanted = self._wanted
        if base is None:
            alone = secret or Secret(wanted.namespace, wanted.name)
            base = manifest(
                wanted.namespace,
                wanted.name,
                {},
                type=wanted.type or alone.type,
                labels=alone.labels,
                annotations=without_scope(alone.annotations),
                immutable=alone.immutable,
            )
        sealed = bare(base)
        sealed["metadata"]["namespace"] = wanted.namespace
        template = sealed["spec"]["template"] = sealed["spec"].get("template") or {}
        inner = template["metadata"] = template.get("metadata") or {}
        if wanted.type and (template.get("type") or "Opaque") != wanted.type:
            template["type"] = wanted.type
        if wanted.immutable is not None and bool(template.get("immutable")) != wanted.immutable:
            template["immutable"] = wanted.immutable
        if scope_of(sealed) != wanted.scope:
            for each in (sealed["metadata"], inner):
                each["annotations"] = {**without_scope(each.get("annotations")), **scope_annotations(wanted.scope)}
        for kind, asked in (("labels", wanted.labels), ("annotations", wanted.annotations)):
            own, its = sealed["metadata"].get(kind) or {}, inner.get(kind) or {}
            # One that 'kubeseal' made has labels in its template alone, and stays so as long as they are as requested.
            own |= {name: value for name, value in asked.items() if name in own or its.get(name) != value}
            for each, merged in ((sealed["metadata"], own), (inner, {**its, **asked})):
                each.pop(kind, None)
                if merged:
                    each[kind] = merged
        sealed["spec"]["encryptedData"] = encrypted
        return sealed

    # --- files and words

    def _write_file(self, file: dict[str, Any] | None, target: dict[str, Any], values: dict[str, bytes]) -> None:
        """Bring the file in line, and what is kept beside it; one that has the same in other words stays."""
        wanted = self._wanted
        if not wanted.path:
            return
        encrypted = target["spec"]["encryptedData"]
        digests = self._digests()
        texts = {digests.path: digests.wanted({key: values[key] for key in values if key in encrypted}, encrypted)}
        if file is None or bare(file) != bare(target):
            texts = {wanted.path: dump(target), **texts}
        for path, text in texts.items():
            if text is None:
                continue
            self.result.changed = True
            self.result.after.append(f"file {path}")
            if not self._check_mode:
                files.write(path, text)

    def _digests(self) -> files.Digests:
        wanted = self._wanted
        return files.Digests(wanted.path, wanted.digest_key, wanted.scope, wanted.namespace, wanted.name)

    def _note(
        self,
        before: dict[str, Any] | None,
        after: dict[str, Any],
        to_seal: Iterable[str] = (),
        taken_over: bool = False,
    ) -> None:
        """Note what is done in words; of several attempts, the state before the first counts."""
        result = self.result
        result.before = result.before or (_words(before) if before is not None else [])
        result.key_names = sorted(after["spec"].get("encryptedData") or {})
        result.sealed = sorted({*result.sealed, *to_seal})
        result.generated = sorted({*result.generated, *(set(to_seal) & set(self._generated))})
        result.taken_over = result.taken_over or taken_over
        result.after = _words(after, set(result.sealed))
        if result.taken_over:
            result.after.append("a Secret that stood alone is taken over")


class ClusterSealing(Sealing):
    """A SealedSecret in the cluster, and its file.

    Args:
        wanted: What is requested.
        api: Client of the API server.
        controller: Who unseals.
        certificate: The one to seal with; None for the controller's.
        check_mode: Whether nothing is written.
        wait: Whether to wait until it is unsealed.
    """

    def __init__(
        self,
        wanted: SealedSecretRequest,
        api: Api,
        controller: Controller,
        certificate: Certificate | None,
        *,
        check_mode: bool,
        wait: bool = True,
    ) -> None:
        secrets = KubernetesStore(api)
        super().__init__(
            wanted,
            controller.certificate if certificate is None else lambda: certificate,
            secrets.read,
            check_mode=check_mode,
        )
        self._api = api
        self._controller = controller
        self._store = SealedStore(secrets, controller, scope=wanted.scope)
        self._own_certificate = certificate is not None
        self._wait = wait
        self._revived = False

    def ensure(self) -> SealedSecretResult:
        """Ensure it, and give what was done.

        Raises:
            KubeError, SealingError: In one sentence, why it cannot be.
        """
        retried(self._attempt, f"SealedSecret {self._wanted.where} or its Secret")
        return self.result

    def _attempt(self) -> None:
        wanted = self._wanted
        file = self._file()
        sealed = self._controller.find(wanted.namespace, wanted.name)
        secret = self._read(wanted.namespace, wanted.name)
        declared = {key.name: self._declared(key) for key in wanted.keys}
        complete = {name for name, value in declared.items() if value is not None}
        if sealed is None and secret is None:
            self._check_namespace()
            if file is not None and not set(file["spec"]["encryptedData"]) <= complete:
                self._restore(file)
                return
        elif sealed is not None:
            if _lacking(sealed, secret) and not _unsealed_keys(sealed) <= complete:
                self._revive(sealed)
                return
            if not synced(sealed)[0] and self._wait and not self._check_mode:
                sealed = self._store.settled(wanted.namespace, wanted.name)
                if synced(sealed)[0] != "False":
                    raise Conflict  # there may be another Secret by now
        self._bring_in_line(file, sealed, secret, declared)

    def _bring_in_line(
        self,
        file: dict[str, Any] | None,
        sealed: dict[str, Any] | None,
        secret: Secret | None,
        declared: dict[str, bytes | None],
    ) -> None:
        """Compare what is there with what is requested, and write what differs."""
        wanted, result = self._wanted, self.result
        there = secret.data if secret is not None else {}
        values = self._values(declared, there, sealed)
        self._check(secret, values)
        owned = secret is not None and sealed is not None and owns(sealed, secret)
        taken_over = secret is not None and not owned
        kept: dict[str, str] = {}
        if sealed is not None and not taken_over and self._store.opened(sealed):
            kept = sealed["spec"].get("encryptedData") or {}
        by_hand = edited({"metadata": secret.metadata}, sealed) if secret is not None and sealed is not None else set()
        to_seal = {
            key: value for key, value in values.items() if key not in kept or there.get(key) != value or key in by_hand
        }
        target = self._build(sealed, secret, {**kept, **self._seal(to_seal)})
        write = sealed is None or target != bare(sealed)
        freeze = bool(wanted.immutable) and secret is not None and not secret.immutable
        if write and self._own_certificate and not self._controller.opens(target):
            raise SealingError(
                f"certificate is not one of {self._controller.where}, which could not open what it sealed: fetch the "
                "newest one, or leave the option out"
            )
        self._note(sealed, target, to_seal, taken_over)
        result.changed = result.changed or write or taken_over or freeze
        result.synced = sealed is not None and not write and not taken_over and synced(sealed)[0] == "True"
        if not self._check_mode:
            if write or taken_over:
                sealed = self._replace(sealed, target, secret if taken_over else None)
            if self._wait and not result.synced:
                sealed = self._store.confirmed(wanted.namespace, wanted.name, values)
                result.synced = True
            if self._wait and freeze:
                self._freeze()
            target = bare(sealed or target)
        self._write_file(file, target, values)

    def _replace(
        self, sealed: dict[str, Any] | None, target: dict[str, Any], taken_over: Secret | None = None
    ) -> dict[str, Any]:
        """Write the SealedSecret, over the one that is there, and have the controller look at it again."""
        if sealed is not None and target["spec"] == bare(sealed)["spec"]:
            # It looks at a new specification only, and that a Secret may be taken over is none.
            target = self._controller.reencrypt(target, f"SealedSecret {self._wanted.where}")
        # What others have set on it stays, such as finalizers.
        there = sealed["metadata"] if sealed is not None else {}
        own = {each: value for each, value in there.items() if each in ("finalizers", "ownerReferences")}
        return self._store.write({**target, "metadata": {**own, **target["metadata"]}}, sealed, taken_over)

    def _values(
        self, declared: dict[str, bytes | None], there: dict[str, bytes], sealed: dict[str, Any] | None
    ) -> dict[str, bytes]:
        """Decide on the values: of what is named, and of what is there beside it."""
        rendered = _rendered(sealed)
        values = {name: value for name, value in there.items() if name not in rendered}
        values |= {key.name: declared[key.name] or there.get(key.name) or self._fresh(key) for key in self._wanted.keys}
        if not values:
            raise KubeError(
                f"Secret {self._wanted.where} is not there, and keys names none: name at least one key with its source"
            )
        return values

    def _check_namespace(self) -> None:
        """See that the namespace is there.

        Raises:
            KubeError: It is not; in check mode it is only warned of, since an earlier task may be to make it.
        """
        namespace = self._wanted.namespace
        try:
            found = self._api.find(f"/api/v1/namespaces/{quoted(namespace)}")
        except ApiError as error:
            if error.status != 403:  # an account that works in an existing namespace may not be allowed to read it
                raise
            return
        if found is not None and not found["metadata"].get("deletionTimestamp"):
            return
        state = f"namespace is '{namespace}', which {'is not there' if found is None else 'is being deleted'}"
        if not self._check_mode:
            raise KubeError(f"{state}: make the namespace first")
        self.result.warnings.append(f"{state}: it has to be made first")

    def _restore(self, file: dict[str, Any]) -> None:
        """Apply the file in a cluster that has neither the SealedSecret nor the Secret."""
        wanted = self._wanted
        here = bare(file)
        here["metadata"]["namespace"] = wanted.namespace
        if not self._controller.opens(here):
            raise SealingError(
                f"the file {wanted.path} cannot be opened by {self._controller.where}: it was sealed for another name, "
                "namespace or scope, or by a key that is not here; restore the keys with "
                "playbooks/sealing_keys_restore.yml, or remove the file to have new values"
            )
        self._bring_back(None, file, f"from file {wanted.path}")
        if not self._check_mode:
            self._store.write(here, None)
            self._controller.wait_synced(wanted.namespace, wanted.name)
            raise Conflict  # go on with what is there now

    def _revive(self, sealed: dict[str, Any]) -> None:
        """Have the controller make the Secret of a SealedSecret again, which lacks some or all of it."""
        wanted = self._wanted
        if not self._check_mode:
            sealed = self._controller.wait_synced(wanted.namespace, wanted.name)
            if not _lacking(sealed, self._read(wanted.namespace, wanted.name)):
                raise Conflict  # it has been by now
            if self._revived:
                raise KubeError(
                    f"SealedSecret {wanted.where} was unsealed, and its Secret lacks keys of it all the same: does "
                    "another writer change or delete it?"
                )
        self._revived = True
        self._bring_back(sealed, sealed, "Secret made again")
        if not self._check_mode:
            self._replace(sealed, bare(sealed))
            raise Conflict  # go on with what is there now

    def _bring_back(self, before: dict[str, Any] | None, after: dict[str, Any], how: str) -> None:
        self.result.changed = True
        self._note(before, after)
        self.result.after.append(how)

    def _freeze(self) -> None:
        """Make the Secret immutable: the controller does so only where it makes one."""
        self._api.json(
            "PATCH",
            Secrets.path(self._wanted.namespace, self._wanted.name),
            query={"fieldManager": FIELD_MANAGER},
            body={"immutable": True},
            content_type=MERGE_PATCH,
        )

    def remove(self, keep_secret: bool) -> SealedSecretResult:
        """Remove the SealedSecret, the Secret that it owns unless that is kept, and the files."""
        wanted, controller = self._wanted, self._controller
        sealed = controller.find(wanted.namespace, wanted.name)
        if sealed is not None:
            self.result.changed = True
            self.result.before = _words(sealed)
            secret = self._read(wanted.namespace, wanted.name)
            owned = secret is not None and owns(sealed, secret)
            self.result.after = ["the Secret alone"] if owned and keep_secret else []
            if keep_secret and not self._check_mode:
                controller.release(wanted.namespace, wanted.name)
            elif not self._check_mode:
                controller.delete(wanted.namespace, wanted.name)
                if owned and self._wait:
                    self._wait_gone(sealed)
        remove_files(wanted.path, self.result, self._check_mode)
        return self.result

    def _wait_gone(self, sealed: dict[str, Any]) -> None:
        deadline = time.monotonic() + self._controller.timeout
        while (left := self._read(self._wanted.namespace, self._wanted.name)) is not None and owns(sealed, left):
            if time.monotonic() >= deadline:
                raise KubeError(
                    f"Secret {self._wanted.where} is not gone {self._controller.timeout:g} s after its SealedSecret "
                    "was deleted"
                )
            time.sleep(0.1)


class FileSealing(Sealing):
    """A SealedSecret in a file alone.

    Args:
        wanted: What is requested.
        certificate: Gives the certificate to seal with.
        read: Gives a Secret of the cluster; None for all where no cluster is asked.
        find: Gives a SealedSecret of the cluster; None for all where no cluster is asked.
        check_mode: Whether nothing is written.
    """

    def __init__(
        self,
        wanted: SealedSecretRequest,
        certificate: Callable[[], Certificate],
        read: Callable[[str, str], Secret | None],
        find: Callable[[str, str], dict[str, Any] | None],
        *,
        check_mode: bool,
    ) -> None:
        super().__init__(wanted, certificate, read, check_mode=check_mode)
        self._find = find

    def ensure(self) -> SealedSecretResult:
        """Ensure the file, and give what was done.

        Raises:
            KubeError, SealingError: In one sentence, why it cannot be.
        """
        wanted = self._wanted
        file = self._file()
        sealed = self._find(wanted.namespace, wanted.name)
        secret = self._read(wanted.namespace, wanted.name)
        there = secret.data if secret is not None else {}
        encrypted = dict(file["spec"]["encryptedData"]) if file is not None else {}
        kept = encrypted if file is not None and scope_of(file) == wanted.scope else {}
        values = self._values(there, sealed, file, kept, set(encrypted) - set(kept))
        self._check(None, values)
        self._check(secret, {})
        its = ((file or {}).get("spec", {}).get("template") or {}).get("type") or "Opaque"
        if secret is None and file is not None and wanted.type not in ("", its):
            raise SealingError(
                f"the file {wanted.path} is of type {its} and must be {wanted.type}, which a Secret cannot change: "
                "remove the file first"
            )
        known = self._known(values, kept, sealed, secret)
        to_seal = {key: value for key, value in values.items() if key not in known}
        compared = sorted(key for key in to_seal if key in kept)
        if compared and wanted.digest_key is None:
            self.result.warnings.append(
                f"digest_key is not set, so that nothing tells whether {', '.join(compared)} of {wanted.path} changed: "
                "sealed again"
            )
        target = self._build(file if file is not None else sealed, secret, {**kept, **self._seal(to_seal)})
        self._note(file, target, to_seal)
        self._write_file(file, target, values)
        return self.result

    def _values(
        self,
        there: dict[str, bytes],
        sealed: dict[str, Any] | None,
        file: dict[str, Any] | None,
        kept: dict[str, str],
        lost: set[str],
    ) -> dict[str, bytes]:
        """Decide on the values that are known here.

        Args:
            there: Those of the Secret in the cluster.
            sealed: The SealedSecret in the cluster.
            file: The sealed file.
            kept: Sealed values of the file that may stay.
            lost: Keys of the file that are sealed for another scope.
        """
        wanted, rendered = self._wanted, _rendered(sealed)
        values = {name: value for name, value in there.items() if name not in rendered}
        for key in wanted.keys:
            value = self._declared(key) or there.get(key.name)
            if value is None and key.name in kept:
                continue  # it was generated earlier
            if value is None and key.name in lost:
                raise SealingError(
                    f"keys.{key.name} was generated for the scope {scope_of(file or {})}, and its value is not known "
                    "here: keep the scope, supply the value, or remove the file to have a new one"
                )
            values[key.name] = value or self._fresh(key)
        unknown = sorted(lost - set(values))
        if unknown:
            raise SealingError(
                f"the scope of {wanted.path} cannot be changed without the value of its key {unknown[0]}: supply it"
            )
        if not values and not kept:
            raise KubeError(f"keys names none for {wanted.where}: name at least one key with its source")
        return values

    def _known(
        self, values: dict[str, bytes], kept: dict[str, str], sealed: dict[str, Any] | None, secret: Secret | None
    ) -> set[str]:
        """Name the keys of which the file is known to seal the value, by a hash or by what the cluster opened."""
        digests = self._digests()
        known = {key for key, text in kept.items() if key in values and digests.holds(key, values[key], text)}
        if sealed is not None and secret is not None and synced(sealed)[0] == "True":
            live = sealed["spec"].get("encryptedData") or {}
            same = {
                key for key, text in kept.items() if live.get(key) == text and secret.data.get(key) == values.get(key)
            }
            known |= (same & set(values)) - edited({"metadata": secret.metadata}, sealed)
        return known


def remove_files(path: str, result: SealedSecretResult, check_mode: bool) -> None:
    """Remove a sealed file and what is kept beside it, and note that in the result.

    Args:
        path: The sealed file; empty for none.
        result: What was done.
        check_mode: Whether nothing is removed.
    """
    for each in (path, path + files.DIGEST) if path else ():
        if os.path.lexists(each):
            result.changed = True
            result.before.append(f"file {each}")
            if not check_mode:
                files.remove(each)


def _rendered(sealed: dict[str, Any] | None) -> set[str]:
    """Name the keys of a Secret that come of templates in its SealedSecret, and not of sealed values."""
    spec = (sealed or {}).get("spec") or {}
    return set((spec.get("template") or {}).get("data") or {}) - set(spec.get("encryptedData") or {})


def _unsealed_keys(sealed: dict[str, Any]) -> set[str]:
    """Name the sealed keys that the Secret has: a template can take some out."""
    given = ((sealed["spec"].get("template") or {}).get("data") or {}).items()
    return set(sealed["spec"].get("encryptedData") or {}) - {key for key, value in given if value is None}


def _lacking(sealed: dict[str, Any], secret: Secret | None) -> bool:
    """Whether a Secret is not there, or lacks keys of its SealedSecret."""
    return secret is None or not _unsealed_keys(sealed) <= set(secret.data)


def _words(sealed: dict[str, Any], to_seal: Iterable[str] = ()) -> list[str]:
    """Describe a SealedSecret in names."""
    template = sealed["spec"].get("template") or {}
    inner = template.get("metadata") or {}
    return [
        f"scope {scope_of(sealed)}",
        f"type {template.get('type') or 'Opaque'}",
        *(["immutable"] if template.get("immutable") else []),
        *(f"label {each}" for each in sorted(inner.get("labels") or {})),
        *(f"annotation {each}" for each in sorted(without_scope(inner.get("annotations")))),
        *(
            f"key {each}{' (sealed now)' if each in to_seal else ''}"
            for each in sorted(sealed["spec"].get("encryptedData") or {})
        ),
    ]
