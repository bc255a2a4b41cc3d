# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the record of changes."""

from __future__ import annotations

import json

from ansible_collections.mlops.mlflow.plugins.module_utils.changes import Changes


def test_nothing_noted_is_nothing_changed():
    assert Changes().result() == {"changed": False, "changes": [], "diff": []}


def test_fields_of_all_things_are_one_difference():
    changes = Changes()
    assert changes.note("user ada", "made an administrator", {"admin": False}, {"admin": True}) is True
    changes.note("user bob", "removed", {"name": "bob"})
    result = changes.result()
    assert result["changes"] == ["user ada: made an administrator", "user bob: removed"]
    assert json.loads(result["diff"][0]["before"]) == {"user ada": {"admin": False}, "user bob": {"name": "bob"}}
    assert json.loads(result["diff"][0]["after"]) == {"user ada": {"admin": True}}


def test_attempts_that_are_repeated_are_one_change():
    changes = Changes()
    changes.note_lines("Secret one/login", "changed", ["a"], ["a", "b"])
    changes.note_lines("Secret one/login", "changed", ["a", "b"], ["a", "b", "c"])
    assert changes.sentences == ["Secret one/login: changed"]
    (entry,) = changes.diff
    assert (entry["before_header"], entry["before"], entry["after"]) == ("Secret one/login", "a\n", "a\nb\nc\n")


def test_check_mode_changes_nothing():
    changes = Changes(check_mode=True)
    assert changes.note("user ada", "removed") is False
    assert changes.note_lines("user ada", "removed", [], []) is False
    assert changes
