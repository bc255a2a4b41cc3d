# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that a user supplies: from the environment, a file, or a variable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

HIDDEN = 16  # characters; a longer value can be nothing else, and is hidden wherever it occurs
NOT_SHOWN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"  # Ansible's own words


class WrongInputError(Exception):
    """An option is wrong; the message says which in one sentence, without values."""


def read_supplied(where: str, given: Any) -> bytes:
    """Give a value that a user supplies.

    Args:
        where: Name of the setting for messages.
        given: A dictionary with one of env, file and value.

    Raises:
        WrongInputError: It is something else, or the variable or file is not there.
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
        raise WrongInputError(f"{where}.{kind} is not valid UTF-8") from None
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


def redacted(given: Any) -> Any:
    """Give an option that supplies values as it may be shown: only where the values come from."""
    if isinstance(given, dict):
        return {name: inner if _names_a_source(name, given) else redacted(inner) for name, inner in given.items()}
    return NOT_SHOWN


def plain_texts(given: Any, short: bool = True) -> Iterator[str]:
    """Give the strings of such an option that Ansible need not hide, though it hides every string of a secret option.

    Args:
        short: Whether values of up to 16 characters are among them: hidden wherever they stand, they would cut holes
            into names; the module must not return them.
    """
    if isinstance(given, dict):
        for name, inner in given.items():
            if name != "secret" and _names_a_source(name, given):
                yield str(inner)
            else:
                yield from plain_texts(inner, short)
    elif isinstance(given, list):
        for inner in given:
            yield from plain_texts(inner, short)
    elif short and len(str(given)) <= HIDDEN:
        yield str(given)


def _names_a_source(name: Any, beside: dict[Any, Any]) -> bool:
    """Whether an entry says where a value comes from: a variable, a file, a Secret, or how it is made."""
    inner = beside[name]
    if "value" in beside:
        return False
    if name == "secret":
        return isinstance(inner, dict) and all(isinstance(each, str) for each in inner.values())
    return name in ("env", "file", "generate", "length") and isinstance(inner, str | int)
