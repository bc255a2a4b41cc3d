# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sealing keys of a Sealed Secrets controller: in the cluster, and in a file encrypted by ansible-vault.

Keys stay in the process that runs this. No error of this file holds one, nor what a library says about one.
What the controller does with keys is read from
https://github.com/bitnami-labs/sealed-secrets/tree/v0.40.0/pkg/controller (keys.go, keyregistry.go, main.go).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import fcntl
import hashlib
import os
import secrets as randomness
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, is_encrypted
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import (
    FIELD_MANAGER,
    MERGE_PATCH,
    Api,
    ApiError,
    KubeError,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import dump as write_yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import parse
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import (
    BACKED_UP,
    KEY_LABEL,
    NAMES_ONLY,
    Controller,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import LAST_APPLIED, Certificate, SealingError

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
except ImportError:  # Certificate, which reads each key first, says so
    serialization = rsa = None  # type: ignore[assignment]  # each use is behind that message

ACTIVE = "active"  # the controller opens with keys of this label; with any other value it passes them over
UNLABELLED = "sealed-secrets-key"  # the one key of old controllers, read by this name although it has no label
RESTORED = "mlops.mlflow/restored"  # annotation of a key that was brought back: when
CERTIFICATE, PRIVATE_KEY = "tls.crt", "tls.key"
VARIABLE = "sealed_secrets_keys_file"
HEADER = """\
# Sealing keys of a Sealed Secrets controller: who has them opens everything that was sealed.
# Back into a cluster without Ansible, once the namespace is there: ansible-vault view THIS_FILE | kubectl create -f -
"""


class SealingKeysError(Exception):
    """Why keys are not backed up or restored, in one sentence without values."""


def timestamp(when: datetime.datetime | None = None) -> str:
    """Give a moment, by default this one, as Kubernetes writes it."""
    return (when or datetime.datetime.now(datetime.UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- keys -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SealingKey:
    """A sealing key, which is a Secret.

    Attributes:
        data: its values in base64, as the API server gives them
        content: hash of the certificate and the public key, equal for equal keys
    """

    name: str
    namespace: str
    type: str
    data: dict[str, str] = field(repr=False)
    labels: dict[str, str]
    annotations: dict[str, str]
    certificate: Certificate = field(repr=False)
    content: str

    @classmethod
    def from_secret(cls, secret: Any, where: str) -> SealingKey:
        """Read a Secret.

        Args:
            where: what to call it in messages

        Raises:
            SealingKeysError: the controller could not read it, and would end at its next start
        """
        metadata = secret.get("metadata") if isinstance(secret, dict) else None
        data = secret.get("data") if isinstance(secret, dict) else None
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not isinstance(data, dict):
            raise SealingKeysError(f"{where} is no Secret with a name and data")
        try:
            parts = {name: base64.b64decode(str(data[name]), validate=True) for name in (CERTIFICATE, PRIVATE_KEY)}
        except KeyError as missing:
            raise SealingKeysError(f"{where} is no sealing key: it lacks {missing.args[0]}") from None
        except (binascii.Error, ValueError):
            raise SealingKeysError(f"{where} is no sealing key: its data are not base64") from None
        try:
            certificate = Certificate.from_pem(
                parts[CERTIFICATE].decode("utf-8", "replace"), f"{CERTIFICATE} of {where}"
            )
        except SealingError as error:
            raise SealingKeysError(str(error)) from None
        try:
            private = serialization.load_pem_private_key(parts[PRIVATE_KEY], password=None)
        except Exception:  # of several kinds; their texts may quote the key
            private = None
        if not isinstance(private, rsa.RSAPrivateKey):
            raise SealingKeysError(f"{where} is no sealing key: its {PRIVATE_KEY} is no RSA key in PEM")
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(
            name=metadata["name"],
            namespace=str(metadata.get("namespace") or ""),
            type=str(secret.get("type") or "kubernetes.io/tls"),
            data={str(name): str(value) for name, value in data.items()},
            labels=_texts(metadata.get("labels")),
            # The copy that kubectl keeps holds the key, and when it was restored is no matter of the next cluster.
            annotations={
                name: value
                for name, value in _texts(metadata.get("annotations")).items()
                if name not in (LAST_APPLIED, RESTORED)
            },
            certificate=certificate,
            content=hashlib.sha256(certificate.fingerprint.encode() + public).hexdigest(),
        )

    @property
    def state(self) -> str:
        """The value of its label: V(active), or what was written there to retire it, such as V(compromised)."""
        return self.labels.get(KEY_LABEL) or ACTIVE

    def manifest(self, namespace: str = "", annotations: dict[str, str] | None = None) -> dict[str, Any]:
        """Give it as a Secret that can be created."""
        noted = {**self.annotations, **(annotations or {})}
        metadata: dict[str, Any] = {"name": self.name, "namespace": namespace or self.namespace}
        if self.labels:
            metadata["labels"] = dict(sorted(self.labels.items()))
        if noted:
            metadata["annotations"] = dict(sorted(noted.items()))
        data = dict(sorted(self.data.items()))
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": self.type, "data": data}

    def line(self) -> str:
        """Give what may be shown of it, on a line."""
        found = self.certificate
        return (
            f"{self.name} ({self.state}, certificate {found.fingerprint[:16]}, "
            f"{found.not_before:%Y-%m-%d} to {found.not_after:%Y-%m-%d})\n"
        )


def _texts(mapping: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in mapping.items()} if isinstance(mapping, dict) else {}


def in_order(keys: list[SealingKey]) -> list[SealingKey]:
    """Sort keys by age: the controller seals with the one whose certificate is the newest."""
    return sorted(keys, key=lambda key: (key.certificate.not_before, key.name))


def dump(keys: list[SealingKey]) -> str:
    """Write keys as YAML that kubectl takes; equal keys give equal texts."""
    items = [key.manifest() for key in in_order(keys)]
    body = {"apiVersion": "v1", "kind": "List", "items": items}
    return HEADER + write_yaml(body)


def load(text: bytes, where: str) -> list[SealingKey]:
    """Read keys from YAML or JSON: a List, a SecretList as kubectl prints it, or several documents.

    Args:
        where: what to call the text in messages

    Raises:
        SealingKeysError: it holds something else, or what is no sealing key, or none
    """
    try:
        documents = [each for each in parse(text) if each is not None]
    except Exception:  # of many kinds; not chained: it quotes the lines
        raise SealingKeysError(f"{where} is opened, but holds no YAML") from None
    secrets: list[Any] = []
    for each in documents:
        items = each.get("items") if isinstance(each, dict) else None
        secrets += items if isinstance(items, list) else [each]
    keys: dict[str, SealingKey] = {}
    for number, secret in enumerate(secrets, 1):
        if not isinstance(secret, dict) or secret.get("kind", "Secret") != "Secret":
            raise SealingKeysError(f"{where} is opened, but holds something else than Secrets")
        key = SealingKey.from_secret(secret, f"Secret number {number} in it")
        if key.name in keys:
            raise SealingKeysError(f"{where} holds the Secret {key.name} more than once")
        keys[key.name] = key
    if not keys:
        raise SealingKeysError(f"{where} holds no sealing keys")
    return in_order(list(keys.values()))


# --- the file ---------------------------------------------------------------------------------------------------------


class Backup:
    """A file of keys, encrypted by ansible-vault.

    Args:
        path: of the file
        secrets: what ansible-playbook was given to open and close vaults with, as pairs of identity and secret
        vault_id: the identity to encrypt with; empty where there is no choice
    """

    def __init__(self, path: Path, secrets: list[tuple[str, Any]], vault_id: str = "") -> None:
        self.path = path
        self._secrets = secrets
        self._vault_id = vault_id

    @property
    def where(self) -> str:
        """What to call it in messages."""
        return f"{VARIABLE} is '{self.path}': this file"

    @property
    def identities(self) -> list[str]:
        """The names of the passwords."""
        return list(dict.fromkeys(str(identity) for identity, _secret in self._secrets))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other backup of this machine write the file between our reading and our writing."""
        if not self.path.parent.is_dir():  # check mode makes no folder
            yield
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def make_folder(self) -> None:
        """Make the folder of the file where it is missing."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SealingKeysError(
                f"{VARIABLE} is '{self.path}': its folder cannot be made ({error.strerror})"
            ) from None

    def closing(self) -> tuple[str, Any]:
        """Choose the identity and the secret to encrypt with.

        Raises:
            SealingKeysError: none was given, or the choice is not clear
        """
        if not self._secrets:
            raise SealingKeysError(
                "no vault password was given, and the sealing keys are only kept encrypted: pass --vault-password-file "
                "or --vault-id to ansible-playbook, or set ANSIBLE_VAULT_PASSWORD_FILE"
            )
        if not self._vault_id and len(self.identities) > 1:
            raise SealingKeysError(
                f"several vault identities were given ({', '.join(self.identities)}): name the one to encrypt with in "
                "sealed_secrets_keys_vault_id"
            )
        wanted = self._vault_id or self.identities[0]
        for identity, secret in self._secrets:
            if identity == wanted:
                return wanted, secret
        raise SealingKeysError(
            f"sealed_secrets_keys_vault_id is '{wanted}': the vault identities that were given are "
            f"{', '.join(self.identities)}"
        )

    def read(self) -> list[SealingKey] | None:
        """Open the file; None where there is none.

        Raises:
            SealingKeysError: it cannot be read or opened, or holds something else
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SealingKeysError(f"{self.where} cannot be read ({error.strerror})") from None
        if not is_encrypted(text):
            raise SealingKeysError(f"{self.where} is not encrypted by ansible-vault, so it is left alone")
        if not self._secrets:
            raise SealingKeysError(
                f"{self.where} is encrypted, and no vault password was given: pass --vault-password-file or --vault-id "
                "to ansible-playbook, or set ANSIBLE_VAULT_PASSWORD_FILE"
            )
        try:
            plain = VaultLib(self._secrets).decrypt(text)
        except (AnsibleError, ValueError, IndexError):
            raise SealingKeysError(
                f"{self.where} cannot be opened by the vault passwords that were given "
                f"({', '.join(self.identities)}): another password closed it, or it is damaged"
            ) from None
        return load(bytes(plain), self.where)

    def check_writable(self) -> None:
        """See that the file can be written, before anything else is done.

        Raises:
            SealingKeysError: it cannot be
        """
        if self.path.is_dir():
            raise SealingKeysError(f"{VARIABLE} is '{self.path}': this is a folder, and must be a file")
        above = self.path.parent
        while not above.exists():
            above = above.parent
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise SealingKeysError(f"{VARIABLE} is '{self.path}': you may not write in {above}")

    def write(self, keys: list[SealingKey]) -> None:
        """Write the file whole or not at all, for its owner only.

        Raises:
            SealingKeysError: it cannot be
        """
        identity, secret = self.closing()
        # As ansible-vault does it, a password without a name leaves none in the file.
        named = {} if identity == "default" else {"vault_id": identity}
        text = VaultLib(self._secrets).encrypt(dump(keys), secret, **named)
        new = self.path.with_name(f".{self.path.name}.{randomness.token_hex(4)}")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(new, self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise SealingKeysError(f"{self.where} cannot be written ({error.strerror})") from None
        finally:
            new.unlink(missing_ok=True)


def merged(kept: list[SealingKey], found: list[SealingKey], where: str, when: str) -> list[SealingKey]:
    """Add the keys of a cluster to those of a file. None is taken out, and labels follow the cluster.

    Args:
        where: what to call the file in messages
        when: noted on the keys that are new

    Raises:
        SealingKeysError: two keys have the same name
    """
    keys = {key.name: key for key in kept}
    for key in found:
        there = keys.get(key.name)
        if there is None:
            noted = {**key.annotations, BACKED_UP: when}
            keys[key.name] = replace(key, annotations=noted)
        elif there.content != key.content:
            raise SealingKeysError(
                f"{where} holds another key of the name {key.name}, of another cluster: it is left alone, "
                "choose another file"
            )
        elif there.labels != key.labels:
            keys[key.name] = replace(there, labels=key.labels)
    return in_order(list(keys.values()))


# --- the cluster ------------------------------------------------------------------------------------------------------


class Keys:
    """The sealing keys of a cluster.

    Args:
        api: client of its API server
        namespace: of the controller
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{quoted(namespace)}/secrets"

    def find(self) -> tuple[list[SealingKey], list[str]]:
        """Give all keys, retired ones too, and a sentence for each Secret that is labelled as one but holds none.

        Raises:
            KubeError: the API server does not give them
        """
        secrets = self._api.get(self._path, labelSelector=KEY_LABEL).get("items") or []
        old = self._api.find(f"{self._path}/{UNLABELLED}")
        if old is not None and all(each["metadata"]["name"] != UNLABELLED for each in secrets):
            secrets.append(old)
        keys, broken = [], []
        for secret in secrets:
            where = f"Secret {self._namespace}/{secret['metadata']['name']}"
            try:
                keys.append(SealingKey.from_secret(secret, where))
            except SealingKeysError as error:
                broken.append(f"{error}; a controller that starts with it fails, so take its label {KEY_LABEL} away")
        return in_order(keys), broken

    def get(self, name: str) -> dict[str, Any] | None:
        """Give a Secret, a key or not; None where there is none."""
        return self._api.find(f"{self._path}/{quoted(name)}")

    def restored(self) -> list[str]:
        """Give when the keys were made that a restore has brought, as the API server writes it."""
        secrets = self._api.json("GET", self._path, query={"labelSelector": KEY_LABEL}, accept=NAMES_ONLY)
        return [
            str(each["metadata"].get("creationTimestamp") or "")
            for each in secrets.get("items") or []
            if RESTORED in (each["metadata"].get("annotations") or {})
        ]

    def note(self, name: str, when: str) -> None:
        """Note on a key that it was backed up.

        Raises:
            SealingKeysError: the API server refuses; the file is written by then
        """
        try:
            self._api.json(
                "PATCH",
                f"{self._path}/{quoted(name)}",
                query={"fieldManager": FIELD_MANAGER},
                body={"metadata": {"annotations": {BACKED_UP: when}}},
                content_type=MERGE_PATCH,
            )
        except ApiError as error:
            if error.status != 404:  # gone meanwhile: it is in the file
                hint = ": the right 'patch' on secrets is needed in that namespace" if error.status == 403 else ""
                raise SealingKeysError(
                    f"the keys are in the file, but Secret {self._namespace}/{name} cannot be annotated as backed up, "
                    f"the API server answered with {error.status}{hint}"
                ) from None

    def create(self, key: SealingKey, when: str) -> bool:
        """Create a key; whether it was not there.

        Raises:
            SealingKeysError: another one of its name came in between
            KubeError: the API server refuses
        """
        body = key.manifest(self._namespace, {RESTORED: when})
        try:
            self._api.json("POST", self._path, query={"fieldManager": FIELD_MANAGER}, body=body)
        except ApiError as error:
            if error.status == 409:
                check_same(key, self.get(key.name) or {}, self._namespace)
                return False
            # What the server says of a body that it refuses may quote it.
            hint = ": the right 'create' on secrets is needed in that namespace" if error.status == 403 else ""
            raise KubeError(
                f"Secret {self._namespace}/{key.name} cannot be created, the API server answered with {error.status}"
                f"{hint}"
            ) from None
        return True


def check_same(key: SealingKey, secret: dict[str, Any], namespace: str) -> None:
    """See that a Secret of a key's name is that key.

    Raises:
        SealingKeysError: it is another one, or none
    """
    try:
        same = SealingKey.from_secret(secret, "it").content == key.content
    except SealingKeysError:
        same = False
    if not same:
        raise SealingKeysError(
            f"Secret {namespace}/{key.name} is there and holds something else than the backup does: nothing was "
            "changed; keep it under another name, or delete it, then run this again"
        )


class Workload:
    """The Deployment of the controller, which reads keys when it starts and at no other time.

    Args:
        api: client of the API server
        namespace: of the controller
        name: of its Deployment and of its Service
    """

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._deployment = api.find(f"/apis/apps/v1/namespaces/{quoted(namespace)}/deployments/{quoted(name)}")

    @property
    def there(self) -> bool:
        """Whether there is a controller to restart."""
        return self._deployment is not None and (self._deployment["spec"].get("replicas", 1) or 0) > 0

    def pods(self) -> list[dict[str, Any]]:
        """Give its pods, without those of which only the end is left."""
        if self._deployment is None:
            return []
        labels = self._deployment["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
        found = self._api.get(f"/api/v1/namespaces/{quoted(self._namespace)}/pods", labelSelector=selector)
        return [
            each
            for each in found.get("items") or []
            if (each.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]

    def misses(self, restored: list[str]) -> bool:
        """Say whether a pod is older than a key that was restored, as a restore that was interrupted leaves it.

        Args:
            restored: when such keys were made
        """
        began = [str(each["metadata"].get("creationTimestamp") or "") for each in self.pods()]
        return bool(began and restored and min(began) < max(restored))

    def restart(self) -> set[str]:
        """Delete the pods, and give their uids. The template stays as it is, so that site.yml finds what it applied."""
        pods = self.pods()
        for pod in pods:
            path = f"/api/v1/namespaces/{quoted(self._namespace)}/pods/{quoted(pod['metadata']['name'])}"
            self._api.delete(path)
        return {pod["metadata"]["uid"] for pod in pods}

    def wait(self, old: set[str], fingerprints: set[str], timeout: float, interval: float = 0.5) -> Certificate:
        """Wait until the pods are others and one of them serves a certificate of a key that is there.

        Args:
            old: uids of the pods that were deleted
            fingerprints: of the certificates that it may hand out

        Raises:
            SealingKeysError: not in time
        """
        deadline = time.monotonic() + timeout
        while True:
            why = "its pod is not replaced yet"
            if not old & {each["metadata"]["uid"] for each in self.pods()}:
                try:
                    found = Controller(self._api, self._namespace, self._name).certificate()
                    if found.fingerprint in fingerprints:
                        return found
                    why = "it serves the certificate of a key that is not there"
                except (KubeError, SealingError) as error:
                    why = str(error)
            if time.monotonic() >= deadline:
                raise SealingKeysError(
                    f"the keys are restored, but the controller {self._namespace}/{self._name} does not serve with "
                    f"them after {timeout:g} s ({why}): see "
                    f"'kubectl --namespace {self._namespace} logs deployment/{self._name}'"
                )
            time.sleep(interval)
