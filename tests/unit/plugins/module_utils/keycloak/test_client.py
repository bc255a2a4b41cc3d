# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how what is declared is compared with what Keycloak has."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.keycloak import client as keycloak
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
THINGS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("want", "have", "equal"),
    [
        (True, "true", True),
        ("true", True, True),
        (True, "True", False),
        (300, "300", True),
        (300, 301, False),
        (None, None, True),
        ("", None, True),
        (None, [], True),
        ([], None, True),
        (False, None, False),
        (["a", "b"], ["b", "a"], True),
        (["a", "a"], ["a", "b"], False),
        (["a"], ["a", "b"], False),
        ([1, "b"], ["b", "1"], True),
        (["a"], "a", False),
        ("a", ["a"], False),
        ({"a": 1}, {"a": "1", "b": 2}, True),
        ({"a": {"b": True}}, {"a": {"b": "true", "c": 1}}, True),
        ({"a": {"b": True}}, {"a": {"c": 1}}, False),
        ({"a": 1}, None, False),
        ({}, {"a": 1}, True),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
        ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}], False),
        ([{"a": 1}], ["a"], False),
    ],
)
def test_same(want, have, equal):
    assert keycloak.same(want, have) is equal


def test_differing_goes_as_deep_as_the_difference():
    want = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1]}
    have = {"a": 1, "b": {"c": 9, "d": 3, "x": 0}, "e": [2], "y": 0}
    assert keycloak.differing(want, have) == ({"b": {"c": 9}, "e": [2]}, {"b": {"c": 2}, "e": [1]})


@given(want=THINGS, have=THINGS)
def test_what_is_merged_is_the_same(want, have):
    before = json.dumps(have)
    result = keycloak.merged(have, want)
    assert keycloak.same(want, result)
    assert keycloak.differing(want, result) == ({}, {})
    assert {key: value for key, value in result.items() if key not in want} == {
        key: value for key, value in have.items() if key not in want
    }
    assert json.dumps(have) == before


@given(want=THINGS, have=THINGS)
def test_what_differs_is_not_the_same(want, have):
    assert bool(keycloak.differing(want, have)[1]) is not keycloak.same(want, have)


def test_a_client_owns_what_is_declared_only():
    options = {
        "client_id": "c",
        "name": None,
        "base_url": None,
        "redirect_uris": [],
        "web_origins": None,
        "post_logout_redirect_uris": None,
        "attributes": {},
        "pkce": "none",
        "standard_flow": False,
        "implicit_flow": False,
        "direct_access_grants": False,
        "service_accounts": True,
    }
    want = keycloak.desired_client(options)
    assert "name" not in want
    assert "webOrigins" not in want
    assert want["redirectUris"] == []
    assert want["attributes"] == {"pkce.code.challenge.method": ""}
    assert want["serviceAccountsEnabled"] is True
