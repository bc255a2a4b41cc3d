# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as age encrypts them by a passphrase, so that a person can open a backup's dumps by a tool that they have.

They are streams: ChaCha20-Poly1305 in chunks of 64 KiB, each with its number and whether it is the last one. So a file
that was changed or cut off does not open: https://github.com/C2SP/C2SP/blob/main/age.md
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterator
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

VERSION = b"age-encryption.org/v1"
CHUNK, TAG = 64 << 10, 16
# Of scrypt, as a power of two: 64 MiB of memory. What age itself makes has 18.
WORK, MOST_WORK = 16, 18
STANZA = re.compile(rb"-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n")
LONGEST_LINE = 128


class AgeFileError(Exception):
    """Why a file cannot be opened, in one sentence without its content."""


class Source(Protocol):
    """What has a content to read."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes; none at the end."""


def _encode(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _decode(text: bytes, size: int) -> bytes:
    try:
        content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        content = b""
    if len(content) != size:
        raise AgeFileError("it is no file of age")
    return content


def _wrapping(passphrase: str, salt: bytes, work: int) -> ChaCha20Poly1305:
    """Return what encrypts the key of a file."""
    key = Scrypt(VERSION + b"/scrypt" + salt, 32, 1 << work, 8, 1).derive(passphrase.encode())
    return ChaCha20Poly1305(key)


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, purpose).derive(key)


def _signed(key: bytes, header: bytes) -> hmac.HMAC:
    signature = hmac.HMAC(_derived(key, b"", b"header"), hashes.SHA256())
    signature.update(header)
    return signature


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _exactly(source: Source, size: int) -> bytes:
    """Read so many bytes, or what there is up to the end."""
    found = bytearray()
    while len(found) < size and (data := source.read(size - len(found))):
        found += data
    return bytes(found)


def _chunks(source: Source, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Read chunks, each with its number and whether it is the last one; of nothing there is one."""
    number, current = 0, _exactly(source, size)
    while following := _exactly(source, size):
        yield number, current, False
        number, current = number + 1, following
    yield number, current, True


def seal(source: Source, passphrase: str) -> Iterator[bytes]:
    """Encrypt a content; each call gives another file, in pieces."""
    key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    wrapped = _wrapping(passphrase, salt, WORK).encrypt(bytes(12), key, None)
    header = VERSION + b"\n-> scrypt %b %d\n%b\n---" % (_encode(salt), WORK, _encode(wrapped))
    yield header + b" " + _encode(_signed(key, header).finalize()) + b"\n" + nonce
    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    for number, chunk, last in _chunks(source, CHUNK):
        yield cipher.encrypt(_nonce(number, last=last), chunk, None)


def _line(source: Source) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LONGEST_LINE and (byte := source.read(1)):
        line += byte
    return bytes(line)


def _key(source: Source, passphrase: str) -> bytes:
    """Read the header; return the key of the file."""
    version, stanza, body, end = (_line(source) for _number in range(4))
    asked = STANZA.fullmatch(stanza)
    if version != VERSION + b"\n" or not asked or int(asked[2]) > MOST_WORK or not end.startswith(b"--- "):
        raise AgeFileError("it is no file of age with a passphrase")
    salt, wrapped, signature = _decode(asked[1], 16), _decode(body.strip(), 32), _decode(end[4:].strip(), 32)
    try:
        key = _wrapping(passphrase, salt, int(asked[2])).decrypt(bytes(12), wrapped, None)
        _signed(key, version + stanza + body + b"---").verify(signature)
    except (InvalidTag, InvalidSignature):
        raise AgeFileError("the passphrase does not open it") from None
    return key


def unseal(source: Source, passphrase: str) -> Iterator[bytes]:
    """Decrypt what `seal` or age gave, in pieces. None is to be used before the last one has come.

    Raises:
        AgeFileError: it is no such file, was changed or cut off, or is of another passphrase.
    """
    key = _key(source, passphrase)
    cipher = ChaCha20Poly1305(_derived(key, _exactly(source, 16), b"payload"))
    for number, chunk, last in _chunks(source, CHUNK + TAG):
        try:
            content = cipher.decrypt(_nonce(number, last=last), chunk, None)
        except InvalidTag:
            raise AgeFileError("it was changed or cut off") from None
        if number and not content:
            raise AgeFileError("it was changed or cut off")
        yield content


class Stream:
    """Pieces of a content as something to read, with its size and SHA-256 so far."""

    def __init__(self, pieces: Iterator[bytes]):
        self._pieces, self._rest = pieces, b""
        self._hash, self.size = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or what there is up to the end."""
        found = bytearray(self._rest)
        while size < 0 or len(found) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            found += piece
        result = bytes(found if size < 0 else found[:size])
        self._rest = bytes(found[len(result) :])
        self._hash.update(result)
        self.size += len(result)
        return result

    def sha256(self) -> str:
        """Return the hash of what was read."""
        return self._hash.hexdigest()
