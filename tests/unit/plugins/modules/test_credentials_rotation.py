# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of rotations by the module credentials."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, Settings
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret
from ansible_collections.mlops.mlflow.plugins.plugin_utils import credentials

LOGIN = {
    "name": "login",
    "namespaces": ["one", "two"],
    "keys": {
        "username": {"value": "mlflow", "alternate": "mlflow_2"},
        "password": {"generate": "password", "length": 32},
    },
}
KEYS = {
    "name": "keys",
    "namespaces": ["one"],
    "keys": {"signing": {"generate": "hex", "length": 64, "overlap": True}, "url": {"value": "http://x"}},
}
CA = {
    "name": "ca",
    "namespaces": ["one"],
    "type": "kubernetes.io/tls",
    "certificate": {"ca": True, "common_name": "x", "days": 3650},
}
SERVER = {
    "name": "tls",
    "namespaces": ["two"],
    "type": "kubernetes.io/tls",
    "certificate": {"authority": "one/ca", "common_name": "x", "hosts": ["x.two.svc"]},
}
ALL = [LOGIN, KEYS, CA, SERVER]


def test_an_account_changes_between_its_names_and_nothing_else_changes(cluster, run):
    run("credentials", secrets=ALL)
    seen = [copy.deepcopy(cluster.values("one/login"))]
    others = {place: cluster.values(place) for place in ("one/keys", "one/ca", "two/tls")}
    for name in (b"mlflow_2", b"mlflow"):
        result = run("credentials", secrets=ALL, rotate={"login": ""})
        values = cluster.values("one/login")
        assert values == cluster.values("two/login")
        assert values["username"] == name
        assert values["password"] not in [each["password"] for each in seen]
        assert [each["updated"] for each in result["secrets"] if each["name"] == "login"] == [
            ["password", "username"]
        ] * 2
        seen.append(copy.deepcopy(values))
        # An ordinary run keeps the name.
        assert run("credentials", secrets=ALL)["changed"] is False
    assert {place: cluster.values(place) for place in others} == others


def test_keys_move_on_by_one_place(cluster, run):
    run("credentials", secrets=[KEYS])
    before = cluster.values("one/keys")
    assert sorted(before) == ["signing", "signing-next", "signing-previous", "url"]
    assert len({before[name] for name in before}) == 4
    run("credentials", secrets=[KEYS], rotate={"keys": ""})
    after = cluster.values("one/keys")
    assert (after["signing-previous"], after["signing"]) == (before["signing"], before["signing-next"])
    assert after["signing-next"] not in before.values()
    assert len(after["signing-next"]) == 64
    assert after["url"] == before["url"]


def test_a_secret_of_before_gets_the_keys_around_its_own(cluster, run):
    cluster.secret("one/keys", {"signing": b"its own", "url": b"http://x"})
    result = run("credentials", secrets=[KEYS])
    assert result["secrets"][0]["updated"] == ["signing-next", "signing-previous"]
    assert cluster.values("one/keys")["signing"] == b"its own"


def test_a_rotation_on_an_empty_cluster_is_the_first_generation(cluster, run):
    run("credentials", secrets=[LOGIN, KEYS], rotate={"login": "", "keys": ""})
    assert cluster.values("one/login")["username"] == b"mlflow"
    assert len(set(cluster.values("one/keys").values())) == 4


def test_a_certificate_is_issued_again(cluster, run):
    run("credentials", secrets=ALL)
    before, ca = cluster.values("two/tls"), cluster.values("one/ca")
    run("credentials", secrets=ALL, rotate={"tls": ""})
    after = cluster.values("two/tls")
    assert before["tls.key"] != after["tls.key"]
    assert before["tls.crt"] != after["tls.crt"]
    assert (cluster.values("one/ca"), after["ca.crt"]) == (ca, before["ca.crt"])


def test_check_mode_names_what_would_change_and_changes_nothing(cluster, run):
    run("credentials", secrets=ALL)
    cluster.requests.clear()
    result = run("credentials", secrets=ALL, rotate={"login": "", "keys": "", "tls": ""}, check=True)
    assert cluster.writes() == []
    assert result["changed"] is True
    assert {each["name"]: each["updated"] for each in result["secrets"]} == {
        "login": ["password", "username"],
        "keys": ["signing", "signing-next", "signing-previous"],
        "ca": [],
        "tls": ["tls.crt", "tls.key"],
    }
    assert result["fingerprints"] == {"one/login": "", "two/login": "", "one/keys": ""}


@pytest.mark.parametrize(
    ("secret", "supplied", "message"),
    [
        ({**LOGIN, "existing": True}, {}, "rotate has 'login': that Secret is not made here"),
        (
            LOGIN,
            {"login": {"password": {"value": "x" * 20}}},
            "rotate has 'login': platform_credentials supplies",
        ),
        (
            {**LOGIN, "keys": {"url": {"value": "x"}}},
            {},
            "rotate has 'login': none of its values is generated",
        ),
        ({**LOGIN, "name": "other"}, {}, "rotate has 'login', and may have other"),
        (
            {**LOGIN, "keys": {"name": {"alternate": "x"}}},
            {},
            "key name of Secret login: alternate needs value",
        ),
        (
            {**LOGIN, "keys": {"name": {"value": "x", "overlap": True}}},
            {},
            "key name of Secret login: value must be a string that is not empty, and stands alone or with alternate",
        ),
        ({**LOGIN, "keys": {"name": {"overlap": True}}}, {}, "key name of Secret login: overlap needs generate"),
    ],
)
def test_wrong_input_fails_in_a_sentence(cluster, run, secret, supplied, message):
    result = run("credentials", secrets=[secret], supplied=supplied, rotate={"login": ""})
    assert result["failed"] is True
    assert result["msg"].startswith(message)
    assert cluster.requests == []


def test_an_attempt_that_is_repeated_rotates_once(cluster):
    """The second namespace has another version by then: the first one already has the new values."""
    secret = {**LOGIN, "type": "Opaque", "labels": {}, "existing": False}
    writes: list[str] = []

    class Contested(KubernetesStore):
        def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
            writes.append(secret.namespace)
            if writes == ["one", "two"]:
                raise Conflict
            super().update(secret, data, labels)

    def ensure(*rotate: str) -> dict[str, bytes]:
        wanted = credentials.parse({"secrets": [secret], "supplied": {}, "rotate": dict.fromkeys(rotate, "")})
        store = Contested(Api(Settings(cluster.url, "the test")))
        credentials.Ensurer(store, check_mode=False, create_namespaces=True, namespace_labels={}).ensure_all(wanted)
        assert cluster.values("one/login") == cluster.values("two/login")
        return cluster.values("one/login")

    before, after = ensure(), ensure("login")
    assert writes == ["one", "two", "two"]
    assert (before["username"], after["username"]) == (b"mlflow", b"mlflow_2")
    assert before["password"] != after["password"]


def test_only_a_version_that_is_named_is_replaced(cluster, run):
    """So a call that is repeated, or that comes second, rotates nothing twice."""
    versions = run("credentials", secrets=ALL)["versions"]
    assert set(versions) == {"login", "keys", "ca", "tls"}
    assert all(len(version) == 16 for version in versions.values())
    first = run("credentials", secrets=ALL, rotate=versions)
    assert not set(first["versions"].values()) & set(versions.values())
    second = run("credentials", secrets=ALL, rotate=versions)
    assert second["changed"] is False
    assert second["versions"] == first["versions"]
    # A key that is new in a Secret is no rotation.
    more = {**KEYS, "keys": {**KEYS["keys"], "added": {"generate": "hex"}}}
    assert run("credentials", secrets=[LOGIN, more, CA, SERVER])["versions"] == first["versions"]
