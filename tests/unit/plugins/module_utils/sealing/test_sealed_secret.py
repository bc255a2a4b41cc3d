# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module sealed_secret with a controller in memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest

HERE = "one/login"
KEYS = {"a": {"generate": "password"}, "b": {"value": "given"}}


@pytest.fixture
def run_module(world, run):
    """Give a function that runs the module."""
    return lambda **options: run("sealed_secret", **{"name": "login", "namespace": "one", **options})


def test_seals_once(world, run_module):
    done = run_module(keys=KEYS, labels={"app": "x"}, annotations={"note": "y"})
    assert (done["changed"], done["synced"], done["sealed"], done["generated"]) == (True, True, ["a", "b"], ["a"])
    assert world.cluster.values(HERE)["b"] == b"given"
    assert world.secret(HERE)["metadata"]["labels"] == {"app": "x"}
    before = copy.deepcopy(world.cluster.objects)
    again = run_module(keys=KEYS, labels={"app": "x"})
    assert (again["changed"], again["synced"], again["sealed"]) == (False, True, [])
    assert world.cluster.objects == before


def test_only_what_changed_is_sealed(world, run_module):
    run_module(keys=KEYS)
    before = world.sealed(HERE)["spec"]["encryptedData"]
    done = run_module(keys=KEYS | {"b": {"value": "new"}})
    assert (done["changed"], done["sealed"]) == (True, ["b"])
    assert world.sealed(HERE)["spec"]["encryptedData"]["a"] == before["a"]
    assert world.cluster.values(HERE)["b"] == b"new"


def test_takes_a_secret_over_with_all_it_has(world, run_module):
    metadata = {"labels": {"app": "x"}, "annotations": {"note": "y"}}
    world.cluster.secret(HERE, {"a": b"1", "b": b"2"}, type="Opaque", metadata=metadata)
    keys = {"a": {"generate": "password"}}
    would = run_module(check=True, keys=keys)
    assert (would["changed"], would["taken_over"]) == (True, True)
    assert world.cluster.writes() == []
    done = run_module(keys=keys)
    assert (done["taken_over"], done["generated"], done["sealed"]) == (True, [], ["a", "b"])
    assert world.cluster.values(HERE) == {"a": b"1", "b": b"2"}
    assert world.secret(HERE)["metadata"]["labels"] == {"app": "x"}
    assert run_module(keys=keys)["changed"] is False


def test_what_was_edited_is_sealed_or_set_back(world, run_module):
    keys = {"given": {"value": "given"}, "made": {"generate": "password"}, "other": {"generate": "password"}}
    run_module(keys=keys)
    world.by_hand(HERE, given=b"by hand", made=b"by hand too")
    assert run_module(check=True, keys=keys)["sealed"] == ["given", "made"]
    done = run_module(keys=keys)
    assert (done["changed"], done["sealed"], done["generated"]) == (True, ["given", "made"], [])
    values = world.cluster.values(HERE)
    assert (values["given"], values["made"]) == (b"given", b"by hand too")
    assert run_module(keys=keys)["changed"] is False


@pytest.mark.parametrize("whole", [False, True])
def test_a_secret_that_lost_its_values_gets_them_back(world, run_module, whole):
    keys = {"a": {"generate": "password"}, "b": {"generate": "password"}}
    run_module(keys=keys)
    values = world.cluster.values(HERE)
    if whole:
        del world.cluster.objects["/api/v1/namespaces/one/secrets/login"]
        world.idle = True
        world.cluster.before = lambda method, _path: setattr(world, "idle", method == "GET")
    else:
        del world.secret(HERE)["data"]["a"]
    assert run_module(check=True, keys=keys)["changed"] is True
    done = run_module(keys=keys)
    assert (done["changed"], done["generated"]) == (True, [])
    assert world.cluster.values(HERE) == values
    assert run_module(keys=keys)["changed"] is False


def test_a_file_is_applied_where_the_cluster_has_nothing(world, run_module):
    path = world.file(HERE)
    keys = {"a": {"generate": "password"}}
    run_module(keys=keys, path=str(path))
    values, text = world.cluster.values(HERE), path.read_text()
    del world.cluster.objects["/api/v1/namespaces/one/secrets/login"]
    del world.cluster.objects["/apis/bitnami.com/v1alpha1/namespaces/one/sealedsecrets/login"]
    assert run_module(check=True, keys=keys, path=str(path))["changed"] is True
    done = run_module(keys=keys, path=str(path))
    assert (done["changed"], done["generated"], done["sealed"]) == (True, [], [])
    assert (world.cluster.values(HERE), path.read_text()) == (values, text)
    path.write_text(text.replace("name: login", "name: moved"))
    failed = run_module(name="moved", keys=keys, path=str(path))
    assert "cannot be opened by the Sealed Secrets controller" in failed["msg"]


def test_scope_labels_and_type(world, run_module):
    keys = {"a": {"generate": "password"}}
    run_module(keys=keys, labels={"app": "x", "team": "a"})
    values = world.cluster.values(HERE)
    for scope in ("namespace-wide", "cluster-wide", "strict"):
        done = run_module(keys=keys, scope=scope)
        assert (done["changed"], done["sealed"], done["generated"]) == (True, ["a"], [])
        assert world.cluster.values(HERE) == values
        assert run_module(keys=keys, scope=scope)["changed"] is False
    done = run_module(keys=keys, labels={"team": "b"})
    assert (done["changed"], done["sealed"]) == (True, [])
    assert world.secret(HERE)["metadata"]["labels"] == {"app": "x", "team": "b"}
    assert "must be kubernetes.io/tls, which cannot be changed" in run_module(type="kubernetes.io/tls")["msg"]
    assert run_module(keys=keys, immutable=True)["changed"] is True
    assert world.secret(HERE)["immutable"] is True
    assert run_module(keys=keys, immutable=True)["changed"] is False
    assert "is immutable, so that its key a cannot be written" in run_module(keys={"a": {"value": "new"}})["msg"]


def test_absent_removes_both_or_leaves_the_secret(world, run_module):
    path = world.file(HERE)
    run_module(keys=KEYS, path=str(path))
    values = world.cluster.values(HERE)
    assert run_module(check=True, state="absent", path=str(path))["changed"] is True
    assert run_module(state="absent", keep_secret=True, path=str(path))["changed"] is True
    assert not path.exists()
    assert world.cluster.values(HERE) == values
    run_module()
    assert run_module(state="absent")["changed"] is True
    assert [each for each in world.cluster.objects if each.endswith("/login")] == []
    assert run_module(state="absent")["changed"] is False


def test_one_that_the_controller_refuses_says_why(world, run_module):
    run_module(keys=KEYS)
    world.keys = []
    world.sealed(HERE)["status"] = {}
    world.cluster.objects.pop("/api/v1/namespaces/one/secrets/login")
    failed = run_module(keys={"c": {"value": "1"}})
    assert "SealedSecret one/login is not unsealed: no sealing key of this cluster opens it" in failed["msg"]


def test_a_write_of_another_writer_is_not_lost(world, run_module):
    run_module(keys=KEYS)
    done: list[Any] = []

    def meanwhile(method: str, path: str) -> None:
        if method == "PUT" and not done:
            done.append(True)
            sealed = world.sealed(HERE)
            sealed["metadata"]["labels"] = {"another": "writer"}
            world.cluster.store("/apis/bitnami.com/v1alpha1/namespaces/one/sealedsecrets/login", sealed)

    world.cluster.before = meanwhile
    assert run_module(keys=KEYS | {"b": {"value": "new"}})["changed"] is True
    assert done
    assert world.sealed(HERE)["metadata"]["labels"] == {"another": "writer"}
    assert world.cluster.values(HERE)["b"] == b"new"
