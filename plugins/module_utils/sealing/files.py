# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed files, and what is kept beside them.

A sealed value shows neither which key sealed it nor what it holds. So what was known at the time of sealing is kept
in files of our own: beside a sealed file a keyed hash of its values (C(NAME.yaml.digest)), and in the directory that
was resealed the certificates of its files (C(.resealed)). Each entry has a hash of the sealed value that it is about,
and counts for nothing once another writer has replaced that. If they are lost, values
are sealed again, and nothing else happens.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import tempfile
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import SealingError, digest

DIGEST = ".digest"  # behind the name of a sealed file
INDEX = ".resealed"  # in a directory; no name that tools take for a manifest


def read(path: str, what: str = "the file") -> str | None:
    """Give the text of a file; None where there is none.

    Args:
        what: What to call it in messages.

    Raises:
        SealingError: It cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SealingError(f"{what} {path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise SealingError(f"{what} {path} cannot be read (it is not text)") from None


def write(path: str, text: str, what: str = "the file") -> None:
    """Write a file that all users may read, whole or not at all, and make its folder.

    Args:
        what: What to call it in messages.

    Raises:
        SealingError: It cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        os.makedirs(folder, exist_ok=True)
        mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=folder, prefix=".sealed.", delete=False
        ) as stream:
            temporary = stream.name
            stream.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        raise SealingError(f"{what} {path} cannot be written ({error.strerror})") from None


def remove(path: str) -> bool:
    """Remove a file, and say whether it was there.

    Raises:
        SealingError: It cannot be removed.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SealingError(f"the file {path} cannot be removed ({error.strerror})") from None
    return True


def hash_of(encrypted: dict[str, str] | str) -> str:
    """Give a hash of sealed values."""
    return hashlib.sha256(json.dumps(encrypted, sort_keys=True).encode()).hexdigest()


def read_json(path: str) -> dict[str, Any]:
    """Give what we keep in a file; nothing where it is of no use."""
    try:
        found = json.loads(read(path) or "{}")
    except (SealingError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def text_of(kept: dict[str, Any]) -> str:
    """Give what is kept as a text with a line for each entry, so that git can merge it."""
    lines = [f"{json.dumps(name)}: {json.dumps(kept[name], sort_keys=True)}" for name in sorted(kept)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


class Digests:
    """Keyed hashes of the values of a sealed file, kept beside it.

    Args:
        path: The sealed file.
        key: The key of the hashes; without it they reveal nothing.
        scope, namespace, name: What the values are bound to.
    """

    def __init__(self, path: str, key: bytes | None, scope: str, namespace: str, name: str) -> None:
        self.path = path + DIGEST
        self._key = key
        self._bound_to = (scope, namespace, name)
        self._kept = read_json(self.path)

    def _entry(self, secret: bytes, key: str, value: bytes, encrypted: str) -> dict[str, str]:
        return {"sealed": hash_of(encrypted), "value": digest(secret, {key: value}, *self._bound_to)}

    def holds(self, key: str, value: bytes, encrypted: str) -> bool:
        """Say whether a sealed value is known to hold a value."""
        kept = self._kept.get(key)
        if self._key is None or not isinstance(kept, dict):
            return False
        entry = self._entry(self._key, key, value, encrypted)
        return kept.get("sealed") == entry["sealed"] and hmac.compare_digest(
            str(kept.get("value")).encode("utf-8", "replace"), entry["value"].encode()
        )

    def wanted(self, values: dict[str, bytes], encrypted: dict[str, str]) -> str | None:
        """Give the text that the file should have; None where it has that, or there is no key to make it.

        Args:
            values: Those that are known; what is kept of the others stays if their sealed values did.
        """
        if self._key is None:
            return None
        entries: dict[str, Any] = {}
        for key, sealed in encrypted.items():
            kept = self._kept.get(key)
            if key in values:
                entries[key] = self._entry(self._key, key, values[key], sealed)
            elif isinstance(kept, dict) and kept.get("sealed") == hash_of(sealed):
                entries[key] = kept
        return None if entries == self._kept else text_of(entries)


def carry_over(path: str, old: dict[str, str], new: dict[str, str]) -> str | None:
    """Give the hashes of a sealed file after the same values were sealed again; None where there are none to carry."""
    kept = read_json(path + DIGEST)
    entries = {
        key: {**entry, "sealed": hash_of(new[key])}
        if isinstance(entry, dict) and key in old and key in new and entry.get("sealed") == hash_of(old[key])
        else entry
        for key, entry in kept.items()
    }
    return None if entries == kept else text_of(entries)
