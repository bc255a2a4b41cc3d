# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an argument spec cannot tell of a variable: patterns, ranges, and that an element is given once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.quantity import parse

# By name, a pattern of the whole value and what to call it.
FORMATS = {
    "address": (
        r"[0-9a-fA-F.:]+(/[0-9]{1,3})?",
        "an IP address or a network such as 10.0.0.0/8",
    ),
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    "bucket": (
        r"(?!.*\.\.)(?!.*-\.)(?!.*\.-)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "the name of a bucket, 3 to 63 lower-case letters, digits, hyphens and dots",
    ),
    "cpu": (r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?", "cores as Kubernetes writes them, such as 250m or 2"),
    "duration": (r"([0-9]+[hms])+", "a duration such as 24h or 90m"),
    "environment": (r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable"),
    "host": (
        r"[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]",
        "a host's name or address, without a port",
    ),
    "image": (r"\S+", "the name of an image"),
    "line": (r"\S(.*\S)?", "a text that is not empty"),
    "namespace": (
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "the name of a namespace, up to 63 lower-case letters, digits and hyphens",
    ),
    "schedule": (r"([-0-9A-Za-z*,/]+ ){4}[-0-9A-Za-z*,/]+", "five fields as cron has them, such as '0 2 * * *'"),
    "secret": (
        r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?",
        "the name of a Secret, lower-case letters, digits, dots and hyphens",
    ),
    # What the filter `bool` knows; an argument spec takes "t" and "y" for true too.
    "switch": (r"(?i:true|yes|on|1|false|no|off|0)", "true or false"),
    "url": (
        r"https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?",
        "http:// or https://, a host and perhaps a port, without a path",
    ),
    # A path has no character that would be escaped in another way elsewhere.
    "public_url": (
        r"https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9][-A-Za-z0-9._~]*)*/?",
        "http:// or https://, a host, and perhaps a port and a path",
    ),
    "word": (r"[^\s,]+", "a text without spaces and commas"),
}
QUANTITY = "a quantity as Kubernetes writes it, such as 512Mi or 4Gi"
PATH = re.compile(r"(\w+)((?:\[\]|\{\}|\.\w+|\.\*)*)")
STEP = re.compile(r"\[\]|\{\}|\w+|\*")


@dataclass(frozen=True)
class Constraint:
    """What one variable, or each of its parts, may hold.

    Attributes:
        description: what it may hold, in the words of a message; the default is that of the format.
        format: a key of FORMATS, or "quantity".
        pattern: a regular expression of the whole value, instead of a format.
        min: the least number or quantity.
        max: the greatest number.
        unit: what a number counts, such as "a number of seconds".
        excluding: values that it may not hold.
        string: whether it has to be a string, where YAML could take it for something else.
        empty: whether it may be empty. The default is no for a text, and yes for a list.
        unique: whether each value may be there once only.
        no_log: whether its value is kept out of messages.
        when: a condition; where it does not hold, the variable may hold anything.
    """

    description: str = ""
    format: str = ""
    pattern: str = ""
    min: int | str | None = None
    max: int | None = None
    unit: str = "a number"
    excluding: Sequence[str] = ()
    string: bool = False
    empty: bool | None = None
    unique: bool = False
    no_log: bool = False
    when: str | bool = True

    def allows(self, value: Any) -> bool:
        """Tell whether a value is one of those described; what is in a list or mapping has paths of its own."""
        if isinstance(value, (list, dict)):
            one = self.format or self.pattern or self.string or self.min is not None or self.max is not None
            return not one and (bool(value) or self.empty is not False)
        text = "" if value is None else str(value)
        if not text and self.empty is not None:
            return self.empty
        return text not in self.excluding and (isinstance(value, str) or not self.string) and self._fits(text)

    def _fits(self, text: str) -> bool:
        if self.format == "quantity":
            return self._is_quantity(text)
        if self.min is not None or self.max is not None:
            return re.fullmatch(r"[0-9]{1,9}", text) is not None and self._is_in_range(int(text))
        pattern = self.pattern or (FORMATS[self.format][0] if self.format else "")
        return not pattern or re.fullmatch(pattern, text) is not None

    def _is_quantity(self, text: str) -> bool:
        try:
            return parse(text) >= parse(self.min or 0)
        except ValueError:
            return False

    def _is_in_range(self, number: int) -> bool:
        return int(self.min or 0) <= number and (self.max is None or number <= self.max)

    def described(self) -> str:
        """Say what the value may hold."""
        if self.format == "quantity":
            text = self.description or QUANTITY
            text += f", and {self.min} or more" if self.min is not None else ""
        elif self.min is not None or self.max is not None:
            span = f" from {self.min or 0} to {self.max}" if self.max is not None else f", {self.min} or more"
            text = self.description or self.unit + span
        else:
            text = self.description or (FORMATS[self.format][1] if self.format else "a string" if self.string else "")
        text += f", and none of {', '.join(self.excluding)}" if self.excluding else ""
        return text + (", or empty" if self.empty else "")


class _WrongTypeError(Exception):
    """A part of a variable is no list or no mapping, which Ansible would have made of it."""

    def __init__(self, subject: str, value: Any, wanted: str) -> None:
        super().__init__(subject)
        self.subject, self.value, self.wanted = subject, value, wanted


def check(constraints: Mapping[str, Constraint], values: Mapping[str, Any]) -> list[str]:
    """Give a sentence for each value that is not what its constraint describes.

    Args:
        constraints: by the path of what they are for: "name", "name[]" (each element), "name{}" (each key), "name.*"
            (each value of a mapping), "name.field", and these one after the other, such as "name[].field[]".
        values: of each variable.
    """
    hidden = {variable(path) for path, constraint in constraints.items() if constraint.no_log}
    found: dict[str, None] = {}
    for path, constraint in constraints.items():
        name = variable(path)
        seen: list[Any] = []
        try:
            for subject, value in _reach(values[name], STEP.findall(path[len(name) :]), name):
                shown = "not shown" if constraint.no_log else _shown(value)
                if not constraint.allows(value):
                    found[f"{subject} {shown}: {constraint.described()}"] = None
                elif constraint.unique and value in seen:
                    found[f"{path} is {shown} more than once: each of them once"] = None
                seen.append(value)
        except _WrongTypeError as error:
            shown = "not shown" if name in hidden else _shown(error.value)
            part = {"a list": "element", "a mapping": "key"}[error.wanted]
            each = constraint.described() if path.endswith(("[]", "{}")) else ""
            found[f"{error.subject} is {shown}: {error.wanted}{f', each {part} {each}' if each else ''}"] = None
    return list(found)


def variable(path: str) -> str:
    """Give the variable that a path begins with.

    Raises:
        ValueError: where it is no path.
    """
    match = PATH.fullmatch(path)
    if not match:
        raise ValueError(f"'{path}' is no path of a constraint")
    return match.group(1)


def _reach(value: Any, steps: list[str], where: str) -> Iterator[tuple[str, Any]]:
    """Give what a path leads to, each with the beginning of a sentence on it."""
    if not steps:
        yield f"{where} is", value
        return
    step, rest = steps[0], steps[1:]
    if step == "[]":
        if not isinstance(value, (list, tuple)):
            raise _WrongTypeError(where, value, "a list")
        for index, each in enumerate(value):
            yield from _reach(each, rest, f"{where}[{index}]")
        return
    if not isinstance(value, Mapping):
        raise _WrongTypeError(where, value, "a mapping")
    if step == "{}":
        yield from ((f"{where} has", key) for key in value)
    elif step == "*":
        for key, each in value.items():
            yield from _reach(each, rest, f"{where}.{key}")
    elif value.get(step) is not None:
        yield from _reach(value[step], rest, f"{where}.{step}")


def _shown(value: Any) -> str:
    """Give a value as a message shows it."""
    return json.dumps(value, default=str) if isinstance(value, (list, tuple, dict)) else f"'{value}'"
