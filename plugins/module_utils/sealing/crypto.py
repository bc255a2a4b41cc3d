# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealing values for Sealed Secrets, without a cluster.

The format is the controller's (https://github.com/bitnami-labs/sealed-secrets/blob/v0.40.0/pkg/crypto/crypto.go). A
session key of 32 bytes is encrypted for the certificate by RSA-OAEP (SHA-256 for both digest and mask) with a label
that says which Secret may hold the value; the value by AES-256-GCM with that session key, which is used once, so that
the nonce may be zero::

    base64( length of the first part, 2 bytes, big endian | RSA-OAEP(session key) | AES-256-GCM(value) with its tag )

Values stay in the process, and no error of this file holds one.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import json
import os
import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import dump as write_yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import parse

API_VERSION = "bitnami.com/v1alpha1"
KIND = "SealedSecret"
STRICT, NAMESPACE_WIDE, CLUSTER_WIDE = "strict", "namespace-wide", "cluster-wide"
SCOPES = (STRICT, NAMESPACE_WIDE, CLUSTER_WIDE)
_ANNOTATIONS = "sealedsecrets.bitnami.com/"
MANAGED = f"{_ANNOTATIONS}managed"  # on a Secret: the controller may take it over
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # holds the values of a Secret that kubectl applied
_SESSION_KEY_BYTES = 32
_NONCE = bytes(12)
_TAG_BYTES = 16
_SHORTEST_KEY = 1024  # bits; the controller's language refuses shorter ones


class SealingError(Exception):
    """What is wrong with a certificate, a key or a sealed value, in one sentence without values."""


def _library() -> SimpleNamespace:
    """Give what is used of the Python library cryptography, which is slow to import and needed to seal only.

    Raises:
        SealingError: It is missing.
    """
    try:
        from cryptography import x509  # noqa: PLC0415  see above
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  see above
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415  see above
        from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415  see above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  see above
    except ImportError:
        raise SealingError("the Python library cryptography is missing on the host that runs this module") from None
    return SimpleNamespace(
        x509=x509,
        InvalidTag=InvalidTag,
        hashes=hashes,
        serialization=serialization,
        padding=padding,
        rsa=rsa,
        AESGCM=AESGCM,
    )


# --- certificates -----------------------------------------------------------------------------------------------------


@dataclass
class Certificate:
    """A sealing certificate.

    Attributes:
        pem: Its PEM text.
        fingerprint: SHA-256 of the certificate, 64 hexadecimal digits.
        not_before: The moment from which it is valid, with a time zone.
        not_after: The moment until which it is valid, with a time zone.
    """

    pem: str
    fingerprint: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    public_key: Any

    @classmethod
    def from_pem(cls, text: str, where: str = "the certificate") -> Certificate:
        """Read the first certificate of a PEM text.

        Args:
            where: What to call it in messages.

        Raises:
            SealingError: It is no certificate, or none with an RSA key.
        """
        library = _library()
        try:
            parsed = library.x509.load_pem_x509_certificate(text.encode())
            public_key = parsed.public_key()
        except Exception:  # of several kinds, according to what is wrong with it
            raise SealingError(
                f"{where} is no certificate: a PEM text that begins with '-----BEGIN CERTIFICATE-----' is needed"
            ) from None
        if not isinstance(public_key, library.rsa.RSAPublicKey):
            raise SealingError(f"{where} has no RSA key, which Sealed Secrets needs")
        if public_key.key_size < _SHORTEST_KEY:
            raise SealingError(f"{where} has an RSA key of {public_key.key_size} bits, which is no longer secure")
        der = parsed.public_bytes(library.serialization.Encoding.DER)
        return cls(
            pem=parsed.public_bytes(library.serialization.Encoding.PEM).decode("ascii"),
            fingerprint=hashlib.sha256(der).hexdigest(),
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            public_key=public_key,
        )

    def check(self, where: str = "the certificate", now: datetime.datetime | None = None) -> None:
        """Verify that it is valid now: a controller may open what an expired one sealed, but should not have to.

        Raises:
            SealingError: It is not.
        """
        now = now or datetime.datetime.now(datetime.UTC)
        if now > self.not_after:
            raise SealingError(f"{where} expired on {self.not_after:%Y-%m-%d}: take the controller's newest one")
        if now < self.not_before:
            raise SealingError(f"{where} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC: check the clock")


# --- values -----------------------------------------------------------------------------------------------------------


def label(scope: str, namespace: str, name: str) -> bytes:
    """Give what binds a sealed value to its Secret, to its namespace, or to nothing.

    Args:
        scope: One of SCOPES.

    Raises:
        SealingError: There is no such scope.
    """
    if scope not in SCOPES:
        raise SealingError(f"the scope is '{scope}', and must be one of {', '.join(SCOPES)}")
    return {STRICT: f"{namespace}/{name}", NAMESPACE_WIDE: namespace, CLUSTER_WIDE: ""}[scope].encode()


def seal(certificate: Certificate, value: bytes, bound_to: bytes) -> str:
    """Seal a value.

    Args:
        bound_to: What C(label) gives.

    Returns:
        Base64, as C(spec.encryptedData) of a SealedSecret holds it; another one at each call.
    """
    library = _library()
    session_key = os.urandom(_SESSION_KEY_BYTES)
    first = certificate.public_key.encrypt(session_key, _oaep(library, bound_to))
    second = library.AESGCM(session_key).encrypt(_NONCE, value, None)
    return base64.b64encode(struct.pack(">H", len(first)) + first + second).decode("ascii")


def unseal(private_keys: list[bytes], text: str, bound_to: bytes) -> bytes:
    """Open a sealed value with one of several private keys.

    Args:
        private_keys: PEM texts.

    Raises:
        SealingError: None of them opens it, or it is no sealed value, or one is no RSA key.
    """
    library = _library()
    try:
        sealed = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise SealingError("it is no sealed value: it is not base64") from None
    length = struct.unpack(">H", sealed[:2])[0] if len(sealed) >= 2 else 0
    if not length or len(sealed) < 2 + length + _TAG_BYTES:
        raise SealingError("it is no sealed value: it is too short")
    for pem in private_keys:
        try:
            key = library.serialization.load_pem_private_key(pem, password=None)
        except Exception:  # of several kinds; their texts may quote the key
            raise SealingError("a sealing key is no private key in PEM") from None
        if not isinstance(key, library.rsa.RSAPrivateKey):
            raise SealingError("a sealing key is no RSA key")
        try:
            session_key = key.decrypt(sealed[2 : 2 + length], _oaep(library, bound_to))
            return library.AESGCM(session_key).decrypt(_NONCE, sealed[2 + length :], None)
        except (ValueError, library.InvalidTag):
            continue
    raise SealingError("no sealing key opens it")


def _oaep(library: SimpleNamespace, bound_to: bytes) -> Any:
    sha256 = library.hashes.SHA256()
    return library.padding.OAEP(mgf=library.padding.MGF1(algorithm=sha256), algorithm=sha256, label=bound_to)


def digest(key: bytes, values: dict[str, bytes], scope: str, namespace: str, name: str) -> str:
    """Give a keyed hash of a Secret's values and of what they are bound to, 64 hexadecimal digits (HMAC-SHA256).

    Without the key it tells nothing of the values, so it may be kept beside a sealed file.
    """
    bound_to = label(scope, namespace, name).hex()
    canonical = json.dumps([scope, bound_to, sorted((each, value.hex()) for each, value in values.items())])
    return hmac.new(key, canonical.encode(), hashlib.sha256).hexdigest()


# --- SealedSecrets ----------------------------------------------------------------------------------------------------


def scope_annotations(scope: str) -> dict[str, str]:
    """Give the annotations by which a SealedSecret and its template tell the scope: none for strict."""
    return {} if scope == STRICT else {f"{_ANNOTATIONS}{scope}": "true"}


def without_scope(annotations: dict[str, str] | None) -> dict[str, str]:
    """Give annotations without those of a scope, of a take-over, and of a copy that kubectl keeps of the values."""
    left_out = {MANAGED, LAST_APPLIED, *(f"{_ANNOTATIONS}{scope}" for scope in SCOPES)}
    return {name: value for name, value in (annotations or {}).items() if name not in left_out}


def scope_of(sealed: dict[str, Any]) -> str:
    """Give the scope of a SealedSecret, as the controller reads it: from its own annotations."""
    annotations = (sealed.get("metadata") or {}).get("annotations") or {}
    for scope in (CLUSTER_WIDE, NAMESPACE_WIDE):
        if annotations.get(f"{_ANNOTATIONS}{scope}") == "true":
            return scope
    return STRICT


def manifest(
    namespace: str,
    name: str,
    encrypted: dict[str, str],
    *,
    type: str = "Opaque",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    scope: str = STRICT,
    immutable: bool = False,
) -> dict[str, Any]:
    """Build a SealedSecret.

    Args:
        encrypted: Sealed values by key.
        labels: Labels of it and of its Secret.
        annotations: Annotations of both, without those of the scope.
    """
    # Both have the same metadata: 'kubeseal --re-encrypt' gives the template those of the SealedSecret.
    own: dict[str, Any] = {"name": name, "namespace": namespace}
    if labels:
        own["labels"] = dict(labels)
    noted = {**(annotations or {}), **scope_annotations(scope)}
    if noted:
        own["annotations"] = noted
    template: dict[str, Any] = {"metadata": json.loads(json.dumps(own)), "type": type}
    if immutable:
        template["immutable"] = True
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": own,
        "spec": {"encryptedData": dict(encrypted), "template": template},
    }


def bare(sealed: dict[str, Any]) -> dict[str, Any]:
    """Give a SealedSecret without what an API server adds to it: what belongs into a file."""
    metadata = sealed.get("metadata") or {}
    annotations = {each: value for each, value in (metadata.get("annotations") or {}).items() if each != LAST_APPLIED}
    kept = {"name": metadata.get("name"), "namespace": metadata.get("namespace")}
    if metadata.get("labels"):
        kept["labels"] = metadata["labels"]
    if annotations:
        kept["annotations"] = annotations
    spec = json.loads(json.dumps(sealed.get("spec") or {}))
    inner = (spec.get("template") or {}).get("metadata")
    if isinstance(inner, dict):
        inner.pop("creationTimestamp", None)  # kubeseal writes null
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": kept, "spec": spec}


def dump(sealed: dict[str, Any]) -> str:
    """Write a SealedSecret as YAML; the same one gives the same text."""
    return "---\n" + write_yaml(bare(sealed), sort_keys=True)


def load(text: str, where: str) -> dict[str, Any]:
    """Read the one SealedSecret of a file, YAML or JSON.

    Args:
        where: What to call the file in messages.

    Raises:
        SealingError: It holds something else.
    """
    try:
        # Through JSON, as Kubernetes takes it: no dates, sets or cycles.
        found = [json.loads(json.dumps(each)) for each in parse(text) if each is not None]
    except Exception:  # of many kinds, according to what is wrong with it
        raise SealingError(f"{where} is no YAML") from None
    if len(found) != 1 or not isinstance(found[0], dict) or found[0].get("kind") != KIND:
        raise SealingError(f"{where} does not hold one SealedSecret, and nothing else")
    sealed = found[0]
    metadata, spec = sealed.get("metadata"), sealed.get("spec")
    encrypted = spec.get("encryptedData") if isinstance(spec, dict) else None
    template = (spec.get("template") or {}) if isinstance(spec, dict) else {}
    inner = (template.get("metadata") or {}) if isinstance(template, dict) else None
    if (
        sealed.get("apiVersion") != API_VERSION
        or not isinstance(metadata, dict)
        or not isinstance(metadata.get("name"), str)
        or not isinstance(metadata.get("namespace") or "", str)
        or not _texts(encrypted)
        or not isinstance(inner, dict)
        or not all(_texts(each.get(of) or {}) for each in (metadata, inner) for of in ("annotations", "labels"))
    ):
        raise SealingError(f"{where} is no SealedSecret of {API_VERSION} with a name and encryptedData")
    return sealed


def _texts(given: Any) -> bool:
    """Say whether it is a dictionary of texts."""
    return isinstance(given, dict) and all(isinstance(value, str) for value in given.values())
