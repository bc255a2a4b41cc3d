# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as ansible-vault encrypts them, so that a person can open a backup's credentials by a tool that they have.

AES-256 in counter mode, authenticated by HMAC-SHA256, with keys of PBKDF2 over the passphrase:
https://docs.ansible.com/ansible/latest/vault_guide/vault_encrypting_content.html#ansible-vault-payload-format-1-1-1-2
"""

import binascii
import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

HEADER = "$ANSIBLE_VAULT;1.1;AES256"
WIDTH = 80


class VaultFileError(Exception):
    """Why a file cannot be opened, in one sentence without its content."""


def _keys(passphrase: str, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the key of the cipher, that of the authentication, and the first block of the counter."""
    derived = PBKDF2HMAC(hashes.SHA256(), length=80, salt=salt, iterations=10_000).derive(passphrase.encode())
    return derived[:32], derived[32:64], derived[64:]


def _signed(key: bytes, content: bytes) -> hmac.HMAC:
    signature = hmac.HMAC(key, hashes.SHA256())
    signature.update(content)
    return signature


def seal(content: bytes, passphrase: str) -> str:
    """Encrypt `content`; each call gives another text."""
    salt = os.urandom(32)
    cipher_key, signing_key, counter = _keys(passphrase, salt)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CTR(counter)).encryptor()
    encrypted = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    parts = (salt, _signed(signing_key, encrypted).finalize(), encrypted)
    body = binascii.hexlify(b"\n".join(map(binascii.hexlify, parts))).decode()
    lines = [body[start : start + WIDTH] for start in range(0, len(body), WIDTH)]
    return "\n".join([HEADER, *lines, ""])


def unseal(text: str, passphrase: str) -> bytes:
    """Decrypt what `seal` or ansible-vault gave.

    Raises:
        VaultFileError: it is no such file, was changed, or is of another passphrase.
    """
    header, _newline, body = text.partition("\n")
    try:
        parts = binascii.unhexlify("".join(body.split())).split(b"\n")
        salt, signature, encrypted = map(binascii.unhexlify, parts)
    except (binascii.Error, ValueError):
        header = ""
    if header.strip() != HEADER:
        raise VaultFileError("it is no file of ansible-vault")
    cipher_key, signing_key, counter = _keys(passphrase, salt)
    try:
        _signed(signing_key, encrypted).verify(signature)
    except InvalidSignature:
        raise VaultFileError("the passphrase does not open it") from None
    decryptor = Cipher(algorithms.AES(cipher_key), modes.CTR(counter)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(encrypted) + decryptor.finalize()) + unpadder.finalize()
