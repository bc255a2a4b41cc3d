# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the header `Authorization: Basic`."""

import base64


def basic(header: str) -> tuple[str, str] | None:
    """Return name and password of a header `Authorization: Basic`, or None for another scheme."""
    scheme, _unused, words = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(words, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None
