# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open values of SealedSecrets: RSA-OAEP with SHA-256 around a key for AES-GCM.

The format is that of https://github.com/bitnami-labs/sealed-secrets/blob/main/docs/developer/crypto.md.
"""

import base64
import binascii
import struct
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SCOPE = "sealedsecrets.bitnami.com/{}"
# A key is used for one value only.
_NONCE = bytes(12)


def label(sealed: dict[str, Any]) -> bytes:
    """Return what the values of a SealedSecret are bound to: its name and namespace, its namespace, or nothing."""
    metadata = sealed["metadata"]
    annotations = metadata.get("annotations") or {}
    if annotations.get(_SCOPE.format("cluster-wide")) == "true":
        return b""
    if annotations.get(_SCOPE.format("namespace-wide")) == "true":
        return metadata["namespace"].encode()
    return f"{metadata['namespace']}/{metadata['name']}".encode()


def opened(keys: Iterable[bytes], text: str, bound_to: bytes) -> bytes | None:
    """Return a value, or None if no key opens it.

    Args:
        keys: private keys in PEM.
        text: base64, as the SealedSecret has it.
        bound_to: what `label` returns.
    """
    way = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=bound_to)
    try:
        content = base64.b64decode(text)
        (length,) = struct.unpack(">H", content[:2])
    except (binascii.Error, struct.error):
        return None
    for pem in keys:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            continue
        try:
            return AESGCM(key.decrypt(content[2 : 2 + length], way)).decrypt(_NONCE, content[2 + length :], None)
        except (ValueError, InvalidTag):
            continue
    return None
