# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that a person supplies: from the environment, a file, or a variable."""

from __future__ import annotations

import os
from typing import Any


class WrongInputError(Exception):
    """An option is wrong; the message says which in one sentence, without values."""


def read_supplied(where: str, given: Any) -> bytes:
    """Give a value that a person supplies.

    :param where: name of the setting for messages
    :param given: a dictionary with one of env, file and value
    :raises WrongInputError: it is something else, or the variable or file is not there
    """
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in ("env", "file", "value"):
        kinds = f", not {', '.join(sorted(map(str, given)))}" if isinstance(given, dict) and given else ""
        raise WrongInputError(f"{where} must be a dictionary with exactly one of env, file and value{kinds}")
    kind, source = next(iter(given.items()))
    if not isinstance(source, str):
        raise WrongInputError(f"{where}.{kind} must be a string: put it in quotes")
    try:
        source.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise WrongInputError(f"{where}.{kind} holds half a character, which is no text") from None
    if kind == "value":
        value = source.encode("utf-8", "surrogateescape")
    elif kind == "env":
        if source not in os.environ:
            raise WrongInputError(f"{where}: the environment variable {source} is not set")
        value = os.environb[os.fsencode(source)]
    else:
        try:
            with open(os.path.expanduser(source), "rb") as stream:
                value = stream.read()
        except (OSError, ValueError) as error:  # ValueError: a null character
            why = error.strerror if isinstance(error, OSError) else "that is no path"
            raise WrongInputError(f"{where}: the file {source} cannot be read ({why})") from None
        value = value[:-2] if value.endswith(b"\r\n") else value.removesuffix(b"\n")
    if not value:
        raise WrongInputError(f"{where}: the value is empty")
    return value
