# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the constraints of variables: which values they allow, and what they say of others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils.constraints import FORMATS, Constraint, check, variable


def problems(path: str, value: Any, **entry: Any) -> list[str]:
    """Give the messages about the value of the variable x."""
    return check({path: Constraint(**entry)}, {"x": value})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("address", ["10.0.0.0/8", "::1", "192.168.1.1"], ["proxy", "10.0.0.0/", ""]),
        ("bucket", ["abc", "a.b-c"], ["ab", "A.b", "a..b", "a-.b", "1.2.3.4", "x" * 64]),
        ("cpu", ["250m", "2", 2, "0.5", 0.25], ["lots", "2Gi", "0.1234", "-1", "m"]),
        ("duration", ["24h", "1h30m", "90s"], ["24", "1d", "monthly", ""]),
        ("environment", ["_A1", "path"], ["1A", "A-B", ""]),
        ("host", ["db", "db.example.com", "10.0.0.1", "[::1]"], ["db:5432", "-db", "::1", ""]),
        ("image", ["localhost/a:1"], ["", "a b"]),
        ("line", ["x", "a b"], ["", " ", " x", "a\n"]),
        ("namespace", ["a", "a-1"], ["A", "a_b", "-a", "a.b", "x" * 64, "a\n"]),
        ("secret", ["a", "a.b-1"], ["A", "a_b", ".a", "x" * 254]),
        ("switch", [True, False, "yes", "No", 1, "off"], ["y", "t", "maybe", "", None]),
        ("url", ["http://a", "https://a.b:8443/", "http://[::1]:80"], ["a:80", "ftp://a", "http://a/b", "http://"]),
        ("word", ["*.example.com"], ["a b", "a,b", ""]),
    ],
)
def test_formats(name, good, bad):
    assert [each for each in good if problems("x", each, format=name)] == []
    assert [each for each in bad if not problems("x", each, format=name)] == []
    assert problems("x", bad[0], format=name) == [f"x is '{bad[0]}': {FORMATS[name][1]}"]


@pytest.mark.parametrize("value", [20, "20", 10000])
def test_a_number_in_its_range(value):
    assert problems("x", value, min=20, max=10000) == []


@pytest.mark.parametrize("value", [19, 10001, "many", "", None, -20, "20.5", True, "20\n"])
def test_a_number_out_of_its_range(value):
    assert problems("x", value, min=20, max=10000)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"min": 1, "max": 9}, "a number from 1 to 9"),
        ({"min": 1}, "a number, 1 or more"),
        ({"min": 1, "unit": "a number of seconds"}, "a number of seconds, 1 or more"),
        ({"min": 1, "description": "a few"}, "a few"),
        (
            {"format": "quantity", "min": "256Mi"},
            "a quantity as Kubernetes writes it, such as 512Mi or 4Gi, and 256Mi or more",
        ),
        (
            {"pattern": "[a-z]+", "description": "letters", "excluding": ["no", "wrong"]},
            "letters, and none of no, wrong",
        ),
        ({"format": "secret", "empty": True}, f"{FORMATS['secret'][1]}, or empty"),
        ({"string": True}, "a string"),
    ],
)
def test_what_may_be_there_is_described(entry, text):
    assert Constraint(**entry).described() == text


@pytest.mark.parametrize(
    ("value", "fits"), [("256Mi", True), ("1G", True), (2**28, True), ("255Mi", False), ("4gb", False), ("", False)]
)
def test_a_quantity_is_compared_as_one(value, fits):
    assert (problems("x", value, format="quantity", min="256Mi") == []) is fits


def test_what_is_excluded_or_empty():
    assert problems("x", "port", description="a setting", excluding=["port"]) == [
        "x is 'port': a setting, and none of port"
    ]
    assert problems("x", "", format="secret", empty=True) == []
    assert problems("x", "", format="secret")
    assert problems("x", [], empty=False, description="one group or more") == ["x is []: one group or more"]
    assert problems("x", []) == []


@pytest.mark.parametrize("entry", [{"format": "line"}, {"pattern": ".*"}, {"min": 1}, {"max": 1}, {"string": True}])
@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_list_is_no_text(entry, value):
    """Ansible's own check takes any value for a string."""
    assert problems("x", value, **entry)


def test_a_string_is_asked_for_in_earnest():
    assert problems("x.*", {"a": "true", "b": True}, string=True) == ["x.b is 'True': a string"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("x[]", ["a", "B"], "x[1] is 'B': small"),
        ("x[]", "b", "x is 'b': a list, each element small"),
        ("x[]", {"a": 1}, 'x is {"a": 1}: a list, each element small'),
        ("x[]", None, "x is 'None': a list, each element small"),
        ("x{}", {"a": 1, "B": 2}, "x has 'B': small"),
        ("x{}", ["a"], 'x is ["a"]: a mapping, each key small'),
        ("x[].name", [{"name": "a"}, {"name": "B"}], "x[1].name is 'B': small"),
        ("x[].name", ["name=a"], "x[0] is 'name=a': a mapping"),
        ("x[].names[]", [{"names": ["a", "B"]}], "x[0].names[1] is 'B': small"),
        ("x[].names[]", [{"names": "a"}], "x[0].names is 'a': a list, each element small"),
    ],
)
def test_parts_are_named(path, value, message):
    assert problems(path, value, pattern="[a-z]", description="small") == [message]


def test_what_may_be_left_out_is():
    assert problems("x[].name", [{}, {"name": None}], format="secret") == []


def test_a_value_that_is_given_more_than_once():
    assert problems("x[].name", [{"name": "a"}, {"name": "b"}, {"name": "a"}], unique=True) == [
        "x[].name is 'a' more than once: each of them once"
    ]


def test_all_problems_are_reported_at_once():
    constraints = {"x": Constraint(min=1), "y[].a": Constraint(format="word"), "y[].b": Constraint(format="word")}
    assert check(constraints, {"x": 0, "y": 5}) == ["x is '0': a number, 1 or more", "y is '5': a list"]


@pytest.mark.parametrize("value", [[{"value": 5432}], ["NAME=hidden-5432"], "hidden-5432", {"hidden": 5432}])
def test_a_secret_is_not_shown(value):
    constraints = {"x[].value": Constraint(string=True, no_log=True), "x[].name": Constraint(format="environment")}
    (message,) = check(constraints, {"x": value})
    assert "5432" not in message
    assert "hidden" not in message
    assert "not shown: " in message


@pytest.mark.parametrize("path", ["x[0]", "x.", "[]", "x{}y", ""])
def test_a_path_that_is_none(path):
    with pytest.raises(ValueError, match=re.escape(f"'{path}' is no path")):
        variable(path)
