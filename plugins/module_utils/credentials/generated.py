# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that Kubernetes takes, and values that are generated."""

from __future__ import annotations

import base64
import re
import secrets as randomness
import string
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")  # a DNS subdomain
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # a DNS label
# https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data
KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
# What follows the name of a key that has an overlap, for the values before it and after it.
PREVIOUS, NEXT = "-previous", "-next"
DEFAULT_LENGTHS = {"password": 32, "hex": 64, "fernet": 44}
SHORTEST = 8  # characters of a generated value
LONGEST = 1024


def generate(kind: str, length: int) -> bytes:
    """Make a value of a kind, V(password), V(hex) or V(fernet), from the system's randomness."""
    if kind == "fernet":
        return base64.urlsafe_b64encode(randomness.token_bytes(32))
    if kind == "hex":
        return randomness.token_hex(length // 2 + 1)[:length].encode()
    alphabet = string.ascii_letters + string.digits
    while True:
        value = "".join(randomness.choice(alphabet) for _unused in range(length))
        # Password policies ask for all three kinds of characters.
        if any(c.islower() for c in value) and any(c.isupper() for c in value) and any(c.isdigit() for c in value):
            return value.encode()


def read_generate(where: str, given: dict[str, Any]) -> tuple[str, int]:
    """Read generate and length of a key.

    Args:
        where: What to call the key in messages.

    Raises:
        WrongInputError: They are not as documented.
    """
    kind = given.get("generate")
    if not isinstance(kind, str) or kind not in DEFAULT_LENGTHS:
        raise WrongInputError(f"{where}: generate is '{kind}', and must be one of {', '.join(DEFAULT_LENGTHS)}")
    length = given.get("length", DEFAULT_LENGTHS[kind])
    try:
        length = int(length) if not isinstance(length, (bool, float)) else 0
    except (TypeError, ValueError):
        length = 0
    if not SHORTEST <= length <= LONGEST or (kind == "fernet" and length != DEFAULT_LENGTHS[kind]):
        allowed = "44 for fernet" if kind == "fernet" else f"from {SHORTEST} to {LONGEST}"
        raise WrongInputError(f"{where}: length is {given['length']!r}, and must be {allowed}")
    return kind, length
