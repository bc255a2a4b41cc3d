# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of what a module changes, or in check mode would change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


class Changes:
    """Changes in words, and as Ansible's difference. It never holds a secret value.

    Args:
        check_mode: Whether changes are only found out, and not made.

    Attributes:
        sentences: Each change as C(thing: what).
        before: The fields that change as they are, by thing.
        after: The same fields as they are to be, by thing.
    """

    def __init__(self, check_mode: bool = False) -> None:
        self.check_mode = check_mode
        self.sentences: list[str] = []
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}
        self._lines: dict[str, tuple[list[str], list[str]]] = {}

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.sentences)

    def note(self, thing: str, what: str, before: dict[str, Any] | None = None, after: Any = None) -> bool:
        """Note a change.

        Args:
            thing: What is changed, such as C(user ada).
            what: What happens to it, such as C(removed).
            before: The fields that differ, as they are.
            after: The same fields, as they are to be.

        Returns:
            Whether the change is to be made: not in check mode.
        """
        self.sentences.append(f"{thing}: {what}")
        if before:
            self.before.setdefault(thing, {}).update(before)
        if after:
            self.after.setdefault(thing, {}).update(after)
        return not self.check_mode

    def note_lines(self, thing: str, what: str, before: Iterable[str], after: Iterable[str]) -> bool:
        """Note a change whose difference is lines, such as the names of keys, under a header of its own.

        Noted again for the same thing, the first state before and the last state after count: attempts that are
        repeated after a conflict are one change.

        Returns:
            Whether the change is to be made: not in check mode.
        """
        sentence = f"{thing}: {what}"
        if sentence not in self.sentences:
            self.sentences.append(sentence)
        first = self._lines[thing][0] if thing in self._lines else list(before)
        self._lines[thing] = (first, list(after))
        return not self.check_mode

    @property
    def diff(self) -> list[dict[str, str]]:
        """The difference as Ansible shows it: fields as one entry, then an entry for each thing with lines."""
        entries = []
        if self.before or self.after:
            entries.append({"before": _json(self.before), "after": _json(self.after)})
        for thing, (before, after) in self._lines.items():
            entries.append(
                {
                    "before_header": thing,
                    "after_header": thing,
                    "before": "".join(f"{line}\n" for line in before),
                    "after": "".join(f"{line}\n" for line in after),
                }
            )
        return entries

    def result(self) -> dict[str, Any]:
        """Give C(changed), C(changes) and C(diff) of a module's result."""
        return {"changed": bool(self), "changes": self.sentences, "diff": self.diff}


def _json(things: dict[str, Any]) -> str:
    return json.dumps(things, indent=2, sort_keys=True, default=str) + "\n" if things else ""
