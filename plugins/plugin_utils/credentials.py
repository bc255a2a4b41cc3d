# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that hold their keys: what is requested, and what is done about it."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes
from ansible_collections.mlops.mlflow.plugins.module_utils.connections import in_parallel
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials import certificates
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.certificates import Certificate, CertificateError
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.generated import (
    KEY,
    NAME,
    NAMESPACE,
    NEXT,
    PREVIOUS,
    generate,
    read_generate,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError, read_supplied
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import KubeError
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import (
    ISSUER_NAME,
    NO_ISSUER,
    CentralWrite,
    Store,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import ATTEMPTS, Secret, retried

REQUESTS = 4
"""About how many requests a Secret takes in one namespace."""
GUESSABLE = 16  # characters; a supplied credential with fewer can be guessed by its hash


@dataclass
class Key:
    """How a key gets its value: supplied, or else literal, or else what is there, or else generated."""

    name: str
    supplied: bytes | None = field(default=None, repr=False)
    literal: bytes | None = None
    alternate: bytes | None = None  # the other literal, which a rotation changes to and fro
    generate: str = ""
    length: int = 0
    successor: str = ""  # the key whose value this one takes in a rotation

    def declared(self, there: bytes | None) -> bytes | None:
        """Give the value that replaces the existing one; None where that stays.

        Args:
            there: The existing value.
        """
        if self.supplied is not None:
            return self.supplied
        return there if self.alternate is not None and there == self.alternate else self.literal


@dataclass
class SecretRequest:
    """A requested Secret, in all its namespaces."""

    name: str
    namespaces: list[str]
    type: str
    labels: dict[str, str]
    existing: bool
    variable: str
    keys: list[Key]
    certificate: Certificate | None = None
    immutable: bool = False
    rotate: str | None = None  # the version that is to be replaced; empty for any

    @property
    def issued(self) -> bool:
        """Whether a certificate of a CA of ours is made here, and nobody supplies it."""
        signed = self.certificate is not None and (self.certificate.ca or bool(self.certificate.authority))
        return signed and not self.issuer and not any(key.supplied for key in self.keys)

    @property
    def issuer(self) -> str:
        """The Issuer of cert-manager that makes it; empty where none does."""
        return self.certificate.issuer if self.certificate else ""

    def secret(self, namespace: str, values: dict[str, bytes]) -> Secret:
        """Give the Secret to create in a namespace."""
        return Secret(namespace, self.name, values, self.type, self.labels)


@dataclass
class EnsuredSecret:
    """What was done to a Secret in one namespace."""

    name: str
    namespace: str
    keys: list[str]
    created: bool = False
    relabelled: bool = False
    generated: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)  # what of the way in which it is kept has to be changed
    recoverable: bool = False  # in check mode: it would be brought back, with values that are not known yet
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the Secret was written, or the way in which it is kept."""
        return self.created or self.relabelled or bool(self.updated or self.converted)


# --- what is requested ------------------------------------------------------------------------------------------------


def read_all_supplied(supplied: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    """Give all values that a user supplies, by Secret and key: those of other calls are checked too, and early.

    Raises:
        WrongInputError: One of them is not as documented, or is not there.
    """
    values: dict[str, dict[str, bytes]] = {}
    for secret, keys in supplied.items():
        if not isinstance(keys, dict):
            raise WrongInputError(f"platform_credentials.{secret} must be a dictionary by the names of keys")
        values[secret] = {
            key: read_supplied(f"platform_credentials.{secret}.{key}", given) for key, given in keys.items()
        }
    return values


def parse_key(secret: str, name: str, given: Any) -> list[Key]:
    """Read one entry of a Secret's keys; with overlap there are three.

    Raises:
        WrongInputError: It is not as documented.
    """
    where = f"key {name} of Secret {secret}"
    if not KEY.fullmatch(name):
        raise WrongInputError(f"{where}: a key's name has letters, digits, '-', '_' and '.' only")
    given = {} if given is None else given
    if not isinstance(given, dict) or set(given) - {"value", "alternate", "generate", "length", "overlap"}:
        raise WrongInputError(
            f"{where} must be a dictionary with value and alternate, or with generate, length and overlap, "
            "or an empty one"
        )
    if "value" in given:
        texts = [given[each] for each in ("value", "alternate") if each in given]
        if not all(isinstance(text, str) and text for text in texts) or len(given) > len(texts):
            raise WrongInputError(
                f"{where}: value must be a string that is not empty, and stands alone or with alternate"
            )
        value, alternate = (*(text.encode() for text in texts), None)[:2]
        return [Key(name, literal=value, alternate=alternate)]
    if "generate" not in given:
        if given:
            raise WrongInputError(f"{where}: {min(given)} needs {'value' if 'alternate' in given else 'generate'}")
        return [Key(name)]
    kind, length = read_generate(where, given)
    if not given.get("overlap"):
        return [Key(name, generate=kind, length=length)]
    former, following = f"{name}{PREVIOUS}", f"{name}{NEXT}"
    return [
        Key(each, generate=kind, length=length, successor=successor)
        for each, successor in ((name, following), (former, name), (following, ""))
    ]


def parse(params: dict[str, Any]) -> list[SecretRequest]:
    """Read the options secrets and supplied.

    Raises:
        WrongInputError: In one sentence, what is wrong with them.
    """
    wanted: list[SecretRequest] = []
    supplied = read_all_supplied(params["supplied"] or {})
    for each in params["secrets"]:
        name = each["name"]
        if not NAME.fullmatch(name):
            raise WrongInputError(f"'{name}' is no name of a Secret: it has lower-case letters, digits, '-' and '.'")
        if not each["namespaces"]:
            raise WrongInputError(f"Secret {name} needs a namespace")
        for namespace in each["namespaces"]:
            if not NAMESPACE.fullmatch(namespace):
                raise WrongInputError(
                    f"'{namespace}' is no name of a namespace for Secret {name}: "
                    "it has up to 63 lower-case letters, digits and '-'"
                )
        # What cert-manager makes is not supplied.
        given = {} if (each.get("certificate") or {}).get("issuer") else supplied.get(name) or {}
        certificate = parse_certificate(name, each, given)
        if not each["keys"] and certificate is None:
            raise WrongInputError(f"Secret {name} needs at least one key")
        keys = [key for named, how in each["keys"].items() for key in parse_key(name, named, how)]
        # Who supplies a CA supplies no other one.
        own = [certificates.CERTIFICATE, certificates.KEY] if given else certificate.keys if certificate else []
        keys += [Key(key) for key in own] if certificate else []
        if given and each["existing"]:
            raise WrongInputError(
                f"platform_credentials.{name} supplies values of a Secret that is declared as an existing one"
            )
        unknown = sorted(set(given) - {key.name for key in keys})
        if unknown:
            raise WrongInputError(
                f"platform_credentials.{name} has '{unknown[0]}', and may have {', '.join(key.name for key in keys)}"
            )
        for key in keys:
            if key.name in given:
                key.supplied = given[key.name]
        wanted.append(
            SecretRequest(
                name=name,
                namespaces=list(dict.fromkeys(each["namespaces"])),
                type=each["type"],
                labels={label: str(value) for label, value in each["labels"].items()},
                existing=each["existing"],
                variable=each.get("variable", ""),
                keys=keys,
                certificate=certificate,
                immutable=each.get("immutable", False),
            )
        )
    mark_rotated(wanted, params.get("rotate") or {})
    places = {place_of(each) for each in wanted if each.certificate and each.certificate.ca}
    for each in wanted:
        if each.issued and each.certificate and each.certificate.authority not in {"", *places}:
            raise WrongInputError(
                f"certificate.authority of Secret {each.name} is '{each.certificate.authority}', and must be the "
                "namespace and name of a Secret of the same call with the certificate of a CA"
            )
    return wanted


def mark_rotated(wanted: list[SecretRequest], versions: dict[str, str]) -> None:
    """Mark the Secrets that are rotated.

    Args:
        versions: by name, which values are replaced.

    Raises:
        WrongInputError: One of them is not requested, or its values are not made here.
    """
    for name, version in versions.items():
        marked = [each for each in wanted if each.name == name]
        if not marked:
            known = ", ".join(sorted({each.name for each in wanted if not why_not_rotated(each)}))
            raise WrongInputError(f"rotate has '{name}', and may have {known}")
        reason = why_not_rotated(marked[0])
        if reason:
            raise WrongInputError(f"rotate has '{name}': {reason}")
        # Where it is requested with other keys too, the values are there by then.
        marked[0].rotate = str(version or "")


def why_not_rotated(wanted: SecretRequest) -> str:
    """Say why a Secret cannot be rotated here; nothing where it can."""
    if wanted.existing:
        return "that Secret is not made here, so change it where it is made, and then run site.yml"
    if any(key.supplied is not None for key in wanted.keys):
        return "platform_credentials supplies that Secret, so supply another value, and then run site.yml"
    if wanted.issuer:
        return "cert-manager makes that Secret: renew it with cmctl"
    if not wanted.issued and not any(key.generate for key in wanted.keys):
        return "none of its values is generated"
    return ""


def parse_certificate(name: str, secret: dict[str, Any], supplied: dict[str, bytes]) -> Certificate | None:
    """Read the option certificate of a Secret; None where it has none.

    Raises:
        WrongInputError: It is not as documented, or what is supplied is not a certificate with its key.
    """
    if secret.get("certificate") is None:
        return None
    certificate = certificates.read_certificate(f"Secret {name}", secret["certificate"])
    if secret["keys"]:
        raise WrongInputError(f"Secret {name} has a certificate, and so no keys of its own")
    if secret["type"] != certificates.TYPE:
        raise WrongInputError(f"Secret {name} has a certificate, and so the type {certificates.TYPE}")
    for key in (certificates.CERTIFICATE, certificates.KEY) if supplied else ():
        if key not in supplied:
            raise WrongInputError(
                f"platform_credentials.{name} lacks {key}: a certificate is supplied with its key, both in PEM form"
            )
    if supplied:
        # Those of others come without a CA.
        certificate = replace(certificate, authority="")
        try:
            certificates.verify(supplied, certificate, certificates.now())
        except CertificateError as error:
            raise WrongInputError(f"platform_credentials.{name} {error}") from None
    return certificate


def place_of(wanted: SecretRequest) -> str:
    """Give namespace and name of a Secret in the first of its namespaces."""
    return f"{wanted.namespaces[0]}/{wanted.name}"


def warnings_of(wanted: list[SecretRequest]) -> list[str]:
    """Give a sentence for each supplied credential that can be guessed by the hash in annotations and exports."""
    return [
        f"platform_credentials.{each.name}.{key.name} has fewer than {GUESSABLE} characters: its hash is in "
        "annotations of pods and in what export.yml writes, where it can be guessed. Supply 20 random ones or more"
        for each in wanted
        for key in each.keys
        if key.generate and key.supplied is not None and len(key.supplied) < GUESSABLE
    ]


# --- what is done about it --------------------------------------------------------------------------------------------


def fingerprint(namespace: str, name: str, values: dict[str, bytes]) -> str:
    """Give a hash of 16 hexadecimal digits that reveals nothing about short values: salted by the place, and slow."""
    canonical = json.dumps(sorted((key, value.hex()) for key, value in values.items())).encode()
    salt = f"mlops.mlflow/{namespace}/{name}".encode()
    return hashlib.scrypt(canonical, salt=salt, n=2**14, r=8, p=1, dklen=8).hex()


class Ensurer:
    """Ensures Secrets in a store.

    Args:
        store: Where they are kept.
        check_mode: Whether to write nothing.
        create_namespaces: Whether to create namespaces that are missing.
        namespace_labels: Labels of namespaces that are created.
        another_store: Opens the same store over a connection of its own, for Secrets in parallel; by default, one
            Secret is ensured after another.
    """

    requests = 0  # not counted

    def __init__(
        self,
        store: Store,
        check_mode: bool,
        create_namespaces: bool,
        namespace_labels: dict[str, str],
        another_store: Callable[[], Store] | None = None,
    ) -> None:
        self._store = store
        self._another_store = another_store
        self._making_namespace = threading.Lock()
        self._check_mode = check_mode
        self._create_namespaces = create_namespaces
        self._namespace_labels = namespace_labels
        self._namespaces: set[str] = set()  # known to be there
        self.namespaces_created: list[str] = []
        self.fingerprints: dict[str, str] = {}
        self.kept: list[CentralWrite] = []  # what was written in the central place
        # By namespace/name, certificate and key of each CA, and its certificate to be shown; empty where check mode
        # cannot tell.
        self.authorities: dict[str, dict[str, bytes]] = {}
        self.certificates: dict[str, str] = {}
        self.versions: dict[str, str] = {}  # by name, of what can be rotated

    def another(self) -> Ensurer:
        """Give one for a further thread, with a store of its own and a common record."""
        if self._another_store is None:
            raise NotImplementedError
        own = copy.copy(self)
        own._store = self._another_store()
        return own

    def close(self) -> None:
        """Close the store's connection."""
        self._store.close()

    def ensure_all(self, wanted: Sequence[SecretRequest]) -> list[EnsuredSecret]:
        """Ensure Secrets; those of one name one after another, in their order.

        Raises:
            KubeError: In one sentence with Secret, namespace and key, why one of them cannot be.
        """
        outcomes: dict[int, list[EnsuredSecret]] = {}
        # A CA comes before what it signs.
        for stage in (True, False):
            named: dict[str, list[SecretRequest]] = {}
            for each in wanted:
                if bool(each.certificate and each.certificate.ca) == stage:
                    named.setdefault(each.name, []).append(each)
            requests = REQUESTS * sum(len(each.namespaces) for group in named.values() for each in group)
            ensured = in_parallel(
                self,
                list(named.values()),
                lambda own, group: [own.ensure(each) for each in group],
                requests if self._another_store else 0,
            )
            outcomes |= {
                id(each): done
                for group, all_done in zip(named.values(), ensured, strict=True)
                for each, done in zip(group, all_done, strict=True)
            }
        return [outcome for each in wanted for outcome in outcomes[id(each)]]

    def ensure(self, wanted: SecretRequest) -> list[EnsuredSecret]:
        """Ensure one Secret in all its namespaces.

        Raises:
            KubeError: In one sentence with Secret, namespace and key, why it cannot be.
        """
        if wanted.existing:
            return self._verify(wanted)
        if wanted.issuer:
            return self._leave(wanted)
        generated: dict[str, bytes] = {}
        outcomes = {
            namespace: EnsuredSecret(wanted.name, namespace, [key.name for key in wanted.keys])
            for namespace in wanted.namespaces
        }
        # A Secret that is released from what made it is read again too, once in each namespace.
        retried(
            lambda: self._attempt(wanted, outcomes, generated),
            f"Secret {wanted.namespaces[0]}/{wanted.name}",
            ATTEMPTS + len(wanted.namespaces),
        )
        return list(outcomes.values())

    def _attempt(self, wanted: SecretRequest, outcomes: dict[str, EnsuredSecret], generated: dict[str, bytes]) -> None:
        """Read, decide and write once.

        Args:
            outcomes: By namespace; what is done is noted in them.
            generated: What was generated in earlier attempts, and is used again.

        Raises:
            Conflict: Another writer wrote meanwhile.
        """
        central = self._store.central(wanted.name, [key.name for key in wanted.keys])
        stored = {namespace: self._read(wanted, outcomes[namespace]) for namespace in wanted.namespaces}
        certificate = wanted.certificate
        unsigned = wanted.issued and certificate and self.authorities.get(certificate.authority) == {}
        if unsigned or any(outcome.recoverable for outcome in outcomes.values()):
            self._note_unknown(wanted, stored, outcomes)
            return
        try:
            if wanted.issued and certificate:
                values, fresh = self._issued(wanted, certificate, central, stored, generated)
            else:
                values, fresh = self._values(wanted, central, stored, generated)
                if certificate:
                    certificates.verify(values, certificate, certificates.now())
        except CertificateError as error:
            raise KubeError(f"Secret {place_of(wanted)} {error}") from None
        for namespace in wanted.namespaces:
            outcomes[namespace].drift = self._check(wanted, namespace, stored[namespace], values)
        kept = self._store.keep(wanted.name, values, write=not self._check_mode)
        if kept is not None:
            self.kept.append(kept)
        # In this order: the first namespace decides which of two generated values stays.
        for namespace in wanted.namespaces:
            self._write(wanted, stored[namespace], values, fresh, outcomes[namespace])
        unknown = bool(self._check_mode and fresh)
        if not why_not_rotated(wanted):
            self.versions[wanted.name] = "" if unknown else version_of(wanted, values)
        # Pods take up a renewed certificate by themselves.
        for namespace in wanted.namespaces if certificate is None else ():
            digest = "" if unknown else fingerprint(namespace, wanted.name, values)
            self.fingerprints[f"{namespace}/{wanted.name}"] = digest
        if certificate and certificate.ca:
            self.authorities[place_of(wanted)] = values
            self.certificates[place_of(wanted)] = "" if unknown else certificates.trusted(values).decode()

    def _read(self, wanted: SecretRequest, outcome: EnsuredSecret) -> Secret | None:
        """Read the Secret of one namespace; bring it back if the store can."""
        namespace, name = outcome.namespace, wanted.name
        stored = self._store.read(namespace, name)
        if stored is not None or not self._store.recoverable(namespace, name):
            return stored
        self._ensure_namespace(namespace, f"Secret {namespace}/{name}")
        outcome.created = True
        outcome.after = [key.name for key in wanted.keys]
        if self._check_mode:
            outcome.recoverable = True
            return None
        return self._store.recover(namespace, name)

    def _note_unknown(
        self, wanted: SecretRequest, stored: dict[str, Secret | None], outcomes: dict[str, EnsuredSecret]
    ) -> None:
        """Note in check mode what is known of a Secret whose values only the controller can tell."""
        if wanted.certificate and wanted.certificate.ca:
            self.authorities[place_of(wanted)] = {}
            self.certificates[place_of(wanted)] = ""
        for namespace, outcome in outcomes.items():
            self.fingerprints[f"{namespace}/{wanted.name}"] = ""
            if stored[namespace] is None:
                self._ensure_namespace(namespace, f"Secret {namespace}/{wanted.name}")
                outcome.created = True
                outcome.after = [key.name for key in wanted.keys]

    def _verify(self, wanted: SecretRequest) -> list[EnsuredSecret]:
        """Verify an existing Secret."""
        outcomes = []
        whose = f"{wanted.variable} is '{wanted.name}': " if wanted.variable else ""
        names = [key.name for key in wanted.keys]
        for namespace in wanted.namespaces:
            stored = self._store.read(namespace, wanted.name)
            if stored is None:
                raise KubeError(
                    f"{whose}Secret {namespace}/{wanted.name} is not there, and must hold the keys {', '.join(names)}"
                )
            for name in names:
                if name not in stored.data:
                    has = ", ".join(sorted(stored.data)) or "no keys"
                    raise KubeError(f"{whose}Secret {namespace}/{wanted.name} lacks the key {name}: it has {has}")
                if not stored.data[name]:
                    raise KubeError(f"{whose}Secret {namespace}/{wanted.name} has nothing in its key {name}")
            if wanted.certificate:
                if stored.type != wanted.type:
                    raise KubeError(
                        f"{whose}Secret {namespace}/{wanted.name} is of type {stored.type} and must be {wanted.type}"
                    )
                try:
                    certificates.verify(stored.data, wanted.certificate, certificates.now())
                except CertificateError as error:
                    raise KubeError(f"{whose}Secret {namespace}/{wanted.name} {error}") from None
            else:
                self.fingerprints[f"{namespace}/{wanted.name}"] = fingerprint(
                    namespace, wanted.name, {name: stored.data[name] for name in names}
                )
            outcomes.append(EnsuredSecret(wanted.name, namespace, names))
        return outcomes

    def _leave(self, wanted: SecretRequest) -> list[EnsuredSecret]:
        """Leave a Secret to cert-manager."""
        certificate = wanted.certificate
        authority = self.authorities.get(certificate.authority) if certificate else None

        def issuer(secret: Secret) -> str:
            noted = secret.annotations.get(ISSUER_NAME)
            if noted not in (None, wanted.issuer):
                return noted  # cert-manager sees that by itself
            if authority is None:
                return noted or NO_ISSUER
            # Not that its Issuer signs by another CA by now.
            return wanted.issuer if certificates.signed(secret.data, authority) else NO_ISSUER

        outcomes = []
        for namespace in wanted.namespaces:
            outcome = EnsuredSecret(wanted.name, namespace, [key.name for key in wanted.keys])
            leave = partial(self._store.leave, namespace, wanted.name, issuer=issuer, write=not self._check_mode)
            outcome.converted = retried(leave, f"Secret {namespace}/{wanted.name}")
            outcomes.append(outcome)
        return outcomes

    @staticmethod
    def _values(
        wanted: SecretRequest,
        central: dict[str, bytes],
        stored: dict[str, Secret | None],
        generated: dict[str, bytes],
    ) -> tuple[dict[str, bytes], set[str]]:
        """Decide on the values; also gives the names of the keys that are generated.

        Args:
            central: Values that win over those in the cluster.
            generated: What was generated in earlier attempts, and is used again.
        """
        values: dict[str, bytes] = {}
        fresh: set[str] = set()
        found = [central, *(one.data for one in stored.values() if one is not None)]
        there = {
            key.name: next((values[key.name] for values in found if values.get(key.name)), None) for key in wanted.keys
        }
        due = wanted.rotate is not None and wanted.rotate in ("", version_of(wanted, there))
        if due and not generated:
            generated.update(rotated(wanted, there))
        for key in wanted.keys:
            existing = there[key.name]
            declared = key.declared(existing)
            if wanted.rotate is not None and generated.get(key.name):
                values[key.name] = generated[key.name]
            elif declared is not None:
                values[key.name] = declared
            elif existing:
                values[key.name] = existing
            elif key.generate:
                generated[key.name] = generated.get(key.name) or generate(key.generate, key.length)
                values[key.name] = generated[key.name]
            else:
                raise KubeError(
                    f"Secret {wanted.namespaces[0]}/{wanted.name} lacks the key {key.name}, and "
                    f"platform_credentials.{wanted.name}.{key.name} does not supply it"
                )
            if key.name in generated and values[key.name] == generated[key.name]:
                fresh.add(key.name)
        return values, fresh

    def _issued(
        self,
        request: SecretRequest,
        wanted: Certificate,
        central: dict[str, bytes],
        stored: dict[str, Secret | None],
        generated: dict[str, bytes],
    ) -> tuple[dict[str, bytes], set[str]]:
        """Decide on a certificate of our CA, or on the CA's own: what is there stays until it has to be renewed.

        Args:
            central: Values that win over those in the cluster.
            generated: What was issued in earlier attempts, and is used again.
        """
        at = certificates.now()
        there = [central] if central else []
        there += [one.data for one in stored.values() if one is not None]
        authority = {} if wanted.ca else self.authorities[wanted.authority]

        def stays(values: dict[str, bytes]) -> bool:
            return certificates.stays(values, wanted, authority or values, at)

        former = next(filter(stays, there), there[0] if there else {})
        again = request.rotate is not None and request.rotate in ("", version_of(request, former))
        if wanted.ca:
            if not (again and generated):
                # Of an attempt that came second, only the pairs of a certificate and its key may be used.
                made = {key: value for key, value in generated.items() if key != certificates.PREVIOUS_CERTIFICATE}
                # In check mode, a CA that has no next one yet would have one by then.
                rotate = again and not (self._check_mode and not former.get(certificates.NEXT_CERTIFICATE))
                known = former if again else {**made, **former}
                generated.update(certificates.ensure_authority(wanted, at, known, rotate=rotate))
            return dict(generated), {key for key in generated if generated[key] != former.get(key)}
        if former and stays(former) and not again:
            kept = {key: former[key] for key in wanted.keys if key in former}
            kept[certificates.AUTHORITY] = certificates.trusted(authority)
            return kept, {key for key in kept if generated.get(key) == kept[key]}
        if not generated:
            generated.update(certificates.issue(wanted, authority, at))
        return dict(generated), set(generated)

    def _check(
        self, wanted: SecretRequest, namespace: str, stored: Secret | None, values: dict[str, bytes]
    ) -> list[str]:
        """See that the Secret of one namespace can be written, before any is; give what drifted in how it is kept."""
        where = f"Secret {namespace}/{wanted.name}"
        if stored is None:
            if not self._create_namespaces and namespace not in self._namespaces:
                if not self._store.has_namespace(namespace):
                    raise KubeError(f"{where} cannot be created: its namespace is not there")
                self._namespaces.add(namespace)
            return []
        if wanted.type not in ("Opaque", stored.type):
            raise KubeError(
                f"{where} is of type {stored.type} and must be {wanted.type}, which cannot be changed: delete it first"
            )
        data = {key for key, value in values.items() if stored.data.get(key) != value}
        if data and stored.immutable:
            raise KubeError(f"{where} is immutable, so that its key {min(data)} cannot be written: delete it first")
        if other := sorted(key for key in data if wanted.immutable and stored.data.get(key)):
            raise KubeError(
                f"{where} has another value of {other[0]}, and what it protects cannot be opened by the new one: "
                "supply the former value, or name another Secret"
            )
        return self._store.drift(stored)

    def _write(
        self,
        wanted: SecretRequest,
        stored: Secret | None,
        values: dict[str, bytes],
        fresh: set[str],
        outcome: EnsuredSecret,
    ) -> None:
        """Bring the Secret of one namespace in line, and note in the outcome what that took."""
        namespace, where = outcome.namespace, f"Secret {outcome.namespace}/{wanted.name}"
        if stored is None:
            if not self._check_mode:
                self._store.check()
            self._ensure_namespace(namespace, where)
            if not self._check_mode:
                self._store.create(wanted.secret(namespace, values))
            outcome.created = True
            outcome.generated = sorted(fresh)
            outcome.after = sorted(values)
            return
        data = {key: value for key, value in values.items() if stored.data.get(key) != value}
        labels = {label: value for label, value in wanted.labels.items() if stored.labels.get(label) != value}
        if not data and not labels and not outcome.drift:
            return
        if not self._check_mode:
            self._store.update(stored, data, labels)
        # An attempt that was repeated may have written some already, hence the union.
        outcome.updated = sorted({*outcome.updated, *data} if not outcome.created else set())
        outcome.generated = sorted({*outcome.generated, *(fresh & set(data))})
        outcome.relabelled = outcome.relabelled or bool(labels)
        outcome.converted = list(dict.fromkeys([*outcome.converted, *outcome.drift]))
        outcome.before = outcome.before or sorted(stored.data)
        replaced = {key for key in outcome.updated if key in outcome.before}
        outcome.after = [f"{key} (new value)" if key in replaced else key for key in sorted({*stored.data, *data})]

    def _ensure_namespace(self, namespace: str, where: str) -> None:
        with self._making_namespace:
            if namespace not in self._namespaces:
                self._make_namespace(namespace, where)

    def _make_namespace(self, namespace: str, where: str) -> None:
        if not self._store.has_namespace(namespace):
            if not self._create_namespaces:
                raise KubeError(f"{where} cannot be created: its namespace is not there")
            if not self._check_mode:
                self._store.create_namespace(namespace, self._namespace_labels)
            self.namespaces_created.append(namespace)
        self._namespaces.add(namespace)


def version_of(wanted: SecretRequest, values: Mapping[str, bytes | None]) -> str:
    """Give a hash of what a rotation replaces in a Secret; empty where it has nothing of that."""
    name = next((key.name for key in wanted.keys if key.generate), certificates.KEY if wanted.issued else "")
    value = values.get(name)
    return fingerprint(wanted.namespaces[0], wanted.name, {name: value}) if value else ""


def rotated(wanted: SecretRequest, there: dict[str, bytes | None]) -> dict[str, bytes]:
    """Give the values that a Secret has after a rotation, of those keys that change.

    Args:
        there: The values so far, by key; None where there is none.
    """
    values = {}
    for key in wanted.keys:
        if key.alternate is not None and key.literal is not None:
            values[key.name] = key.alternate if there[key.name] == key.literal else key.literal
        elif key.generate:
            following = there.get(key.successor) if there[key.name] else None
            values[key.name] = following or generate(key.generate, key.length)
    return values


def changes_of(ensurer: Ensurer, outcomes: list[EnsuredSecret]) -> Changes:
    """Give what was changed, with the names of keys."""
    changes = Changes()
    for each in ensurer.namespaces_created:
        changes.note_lines(f"Namespace {each}", "created", [], [each])
    for entry in ensurer.kept:
        header = f"Vault {entry.path} (names of keys that are written)"
        changes.note_lines(header, "written", [], entry.updated or ["a new entry"])
    for outcome in outcomes:
        if outcome.changed:
            header = f"Secret {outcome.namespace}/{outcome.name} (names of keys)"
            after = [*outcome.after, *(f"({way})" for way in outcome.converted)]
            changes.note_lines(header, "created" if outcome.created else "changed", outcome.before, after)
    return changes
