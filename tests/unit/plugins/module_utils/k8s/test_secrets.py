# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reading and writing Secrets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import (
    Conflict,
    Secret,
    Secrets,
    SecretValues,
    retried,
)


@pytest.fixture
def secrets(cluster) -> Secrets:
    """Give the Secrets of a cluster that has the namespaces one and two."""
    cluster.namespace("one", "two")
    return Secrets(Api(Settings(server=cluster.url, source="the tests")))


def test_what_is_created_is_read(secrets):
    made = secrets.create(Secret("one", "login", {"a": b"\xff"}, labels={"x": "y"}, annotations={"n": "m"}))
    found = secrets.read("one", "login")
    assert found == made
    assert (found.data, found.labels, found.annotations) == ({"a": b"\xff"}, {"x": "y"}, {"n": "m"})
    assert found.version
    assert secrets.read("two", "login") is None


def test_lists_by_label(secrets):
    for place in ("one", "two"):
        secrets.create(Secret(place, "login", {"a": b"b"}, labels={"x": place}))
    assert [each.where for each in secrets.list("x")] == ["one/login", "two/login"]
    assert [each.where for each in secrets.list("x=two")] == ["two/login"]
    assert [each.where for each in secrets.list("x", "one")] == ["one/login"]


def test_a_patch_keeps_what_it_does_not_name(secrets):
    made = secrets.create(Secret("one", "login", {"a": b"1", "b": b"2"}, labels={"x": "y"}))
    after = secrets.patch(made, {"b": b"3"}, annotations={"n": "m"})
    assert (after.data, after.labels, after.annotations) == ({"a": b"1", "b": b"3"}, {"x": "y"}, {"n": "m"})


def test_a_write_over_another_ones_is_a_conflict(secrets):
    made = secrets.create(Secret("one", "login", {"a": b"1"}))
    with pytest.raises(Conflict):
        secrets.create(made)
    secrets.patch(made, {"a": b"2"})
    with pytest.raises(Conflict):
        secrets.patch(made, {"a": b"3"})
    with pytest.raises(Conflict):
        secrets.patch(replace(made, name="gone"), {"a": b"3"})


def test_retries_until_there_is_no_conflict(secrets):
    made = secrets.create(Secret("one", "login", {"a": b"1"}))
    secrets.patch(made, {"a": b"2"})
    versions = [made, secrets.read("one", "login")]
    assert retried(lambda: secrets.patch(versions.pop(0), {"a": b"3"}), "Secret one/login").data == {"a": b"3"}


def test_retries_have_an_end():
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise Conflict

    with pytest.raises(
        KubeError, match=r"^Secret x is changed by another writer all the time: gave up after 3 attempts$"
    ):
        retried(attempt, "Secret x", 3)
    assert len(calls) == 3


def test_values_are_read_once_and_known_as_secret(secrets, cluster):
    cluster.secret("one/login", {"a": b"value", "b": b"\xff"})
    values = SecretValues(secrets.read)
    assert values.text("one", "login", "a", "password") == "value"
    with pytest.raises(KubeError, match=r"^Secret one/login has no text in its key b, the password$"):
        values.text("one", "login", "b", "password")
    with pytest.raises(KubeError, match=r"^Secret one/login has no key c, which is to hold the password$"):
        values.text("one", "login", "c", "password")
    assert values.values == {"value"}
    assert len(cluster.requests) == 1


def test_in_check_mode_a_value_may_be_to_come(secrets):
    assert SecretValues(secrets.read, check_mode=True).text("one", "none", "a", "password") is None
