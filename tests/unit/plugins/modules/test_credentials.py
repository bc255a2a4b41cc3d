# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module credentials."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore, Store
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret
from ansible_collections.mlops.mlflow.plugins.plugin_utils import credentials
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

LOGIN = {
    "name": "login",
    "namespaces": ["one", "two"],
    "keys": {"username": {"value": "mlflow"}, "password": {"generate": "password", "length": 32}},
}
PLANTED = "pl4nted 'quo\"tes' {{ jinja }} $HOME \\back\nline ünïcode % & ; # é"


def login(**more: Any) -> dict[str, Any]:
    """Give the Secret of most tests, with differences."""
    return {**LOGIN, **more}


# --- what is ensured --------------------------------------------------------------------------------------------------


def test_generates_once_and_gives_all_namespaces_the_same(cluster, run):
    first = run("credentials", secrets=[LOGIN], namespace_labels={"team": "ml"})
    assert first["changed"] is True
    assert first["namespaces_created"] == ["one", "two"]
    assert first["secrets"] == [
        {
            "name": "login",
            "namespace": namespace,
            "created": True,
            "key_names": ["username", "password"],
            "generated": ["password"],
            "updated": [],
            "converted": [],
        }
        for namespace in ("one", "two")
    ]
    values = cluster.values("one/login")
    assert values == cluster.values("two/login")
    assert values["username"] == b"mlflow"
    assert re.fullmatch(rb"[A-Za-z0-9]{32}", values["password"])
    assert cluster.objects["/api/v1/namespaces/one"]["metadata"]["labels"] == {"team": "ml"}
    assert set(first["fingerprints"]) == {"one/login", "two/login"}
    assert first["fingerprints"]["one/login"] != first["fingerprints"]["two/login"]

    cluster.requests.clear()
    second = run("credentials", secrets=[LOGIN])
    assert second["changed"] is False
    assert second["fingerprints"] == first["fingerprints"]
    assert second["diff"] == []
    assert len(cluster.requests) == 2, "one read for each Secret, and nothing else"
    assert cluster.writes() == []


def test_writes_data_with_its_field_manager_and_nothing_like_kubectl(cluster, run):
    cluster.namespace("one", "two")
    run("credentials", secrets=[login(labels={"app": "x"})])
    secret = cluster.objects["/api/v1/namespaces/one/secrets/login"]
    assert "stringData" not in secret
    assert "annotations" not in secret["metadata"]
    assert secret["metadata"]["labels"] == {"app": "x"}
    assert secret["type"] == "Opaque"
    assert cluster.writes() == [
        f"POST /api/v1/namespaces/{namespace}/secrets?fieldManager=mlops.mlflow" for namespace in ("one", "two")
    ]


def test_first_namespace_that_has_a_key_is_the_source(cluster, run):
    cluster.namespace("one")
    cluster.secret("two/login", {"username": b"mlflow", "password": b"second"})
    cluster.secret("three/login", {"username": b"mlflow", "password": b"third", "extra": b"kept"})
    result = run("credentials", secrets=[login(namespaces=["one", "two", "three"])])
    assert [cluster.values(f"{each}/login")["password"] for each in ("one", "two", "three")] == [b"second"] * 3
    assert cluster.values("three/login")["extra"] == b"kept"
    assert [each["created"] for each in result["secrets"]] == [True, False, False]
    assert [each["updated"] for each in result["secrets"]] == [[], [], ["password"]]
    assert [each["generated"] for each in result["secrets"]] == [[], [], []]


def test_adds_a_missing_key_and_keeps_the_others(cluster, run):
    cluster.secret("one/login", {"password": b"old", "other": b"kept"}, type="Opaque")
    result = run("credentials", secrets=[login(namespaces=["one"])])
    assert cluster.values("one/login") == {"password": b"old", "other": b"kept", "username": b"mlflow"}
    assert result["secrets"][0]["updated"] == ["username"]
    assert result["secrets"][0]["generated"] == []


def test_literal_value_replaces_what_is_there(cluster, run):
    cluster.secret("one/login", {"username": b"theirs", "password": b"old"})
    result = run("credentials", secrets=[login(namespaces=["one"])])
    assert cluster.values("one/login")["username"] == b"mlflow"
    assert result["secrets"][0]["updated"] == ["username"]


def test_an_empty_key_counts_as_missing(cluster, run):
    cluster.secret("one/login", {"username": b"mlflow", "password": b""})
    result = run("credentials", secrets=[login(namespaces=["one"])])
    assert len(cluster.values("one/login")["password"]) == 32
    assert result["secrets"][0]["generated"] == ["password"]


def test_labels_are_brought_in_line_without_touching_values(cluster, run):
    cluster.secret("one/login", {"username": b"mlflow", "password": b"old"})
    result = run("credentials", secrets=[login(namespaces=["one"], labels={"team": "ml"})])
    assert result["changed"] is True
    assert result["secrets"][0]["updated"] == []
    assert cluster.objects["/api/v1/namespaces/one/secrets/login"]["metadata"]["labels"] == {"team": "ml"}
    assert run("credentials", secrets=[login(namespaces=["one"], labels={"team": "ml"})])["changed"] is False


def test_secret_whose_data_is_absent(cluster, run):
    cluster.namespace("one")
    cluster.store("/api/v1/namespaces/one/secrets/login", {"kind": "Secret"})
    run("credentials", secrets=[login(namespaces=["one"])])
    assert cluster.values("one/login")["username"] == b"mlflow"


# --- what is supplied -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "warned"), [(1, True), (15, True), (16, False)])
def test_a_supplied_password_that_its_hash_gives_away_is_warned_of(cluster, run, length, warned):
    options = {"secrets": [LOGIN], "supplied": {"login": {"password": {"value": "x" * length}}}}
    warnings = run("credentials", **options)["warnings"]
    assert ["platform_credentials.login.password has fewer than 16 characters" in each for each in warnings] == (
        [True] if warned else []
    )
    # A name is no secret, however short.
    assert run("credentials", secrets=[LOGIN], supplied={"login": {"username": {"value": "kim"}}})["warnings"] == []


@pytest.mark.parametrize("kind", ["env", "file", "value"])
def test_supplied_value_wins_and_every_character_survives(cluster, run, monkeypatch, tmp_path, kind):
    cluster.secret("one/login", {"username": b"mlflow", "password": b"old"})
    path = tmp_path / "password"
    path.write_text(PLANTED + "\n", encoding="utf-8")
    monkeypatch.setenv("THE_PASSWORD", PLANTED)
    source = {"env": "THE_PASSWORD", "file": str(path), "value": PLANTED}[kind]
    result = run("credentials", secrets=[LOGIN], supplied={"login": {"password": {kind: source}}, "unrelated": {}})
    assert cluster.values("one/login")["password"] == PLANTED.encode()
    assert cluster.values("two/login")["password"] == PLANTED.encode()
    assert [each["updated"] for each in result["secrets"]] == [["password"], []]
    assert [each["generated"] for each in result["secrets"]] == [[], []]
    again = run("credentials", secrets=[LOGIN], supplied={"login": {"password": {kind: source}}})
    assert again["changed"] is False
    for output in (result["_output"], again["_output"]):
        assert_hidden(output, PLANTED)


def test_what_else_is_secret_stays_hidden(run, monkeypatch):
    result = run(
        "credentials",
        secrets=[LOGIN],
        supplied={"login": {"password": {"env": "NOT_SET_HERE"}}},
        proxy_headers={"proxy_basic_auth": "planted-login"},
        vault={"token": {"value": "root"}, "secret_id": {"env": "AN_ID"}},
        api_key="planted-key",
    )
    assert "the environment variable NOT_SET_HERE is not set" in result["msg"]
    assert "planted" not in result["_output"]


def test_a_kubeconfig_as_a_dictionary_hides_what_its_users_log_in_with(cluster, run):
    kubeconfig = {
        "clusters": [{"name": "one", "cluster": {"server": cluster.url}}],
        "users": [{"name": "login", "user": {"token": "planted-token"}}],
        "contexts": [{"name": "two", "context": {"cluster": "one", "user": "login"}}],
        "current-context": "two",
    }
    result = run("credentials", secrets=[LOGIN], kubeconfig=kubeconfig)
    assert [(each["namespace"], each["name"]) for each in result["secrets"]] == [("one", "login"), ("two", "login")]
    assert "planted-token" not in result["_output"]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"a", b"a"),
        (b"a\n", b"a"),
        (b"a\n\n", b"a\n"),
        (b"a\r\n", b"a"),
        (b" a ", b" a "),
        (b"\x00\xff\n", b"\x00\xff"),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_left_out(cluster, run, tmp_path, content, value):
    path = tmp_path / "password"
    path.write_bytes(content)
    run("credentials", secrets=[LOGIN], supplied={"login": {"password": {"file": str(path)}}})
    assert cluster.values("one/login")["password"] == value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example(value="{{")
@example(value="'\"\\$`\n\t")
@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives(value):
    assert credentials.read_supplied("x", {"value": value}) == value.encode()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(min_size=1).filter(lambda value: b"\x00" not in value))
def test_any_bytes_of_the_environment_survive(value):
    os.environb[b"MLOPS_TEST_VALUE"] = value
    try:
        assert credentials.read_supplied("x", {"env": "MLOPS_TEST_VALUE"}) == value
    finally:
        del os.environb[b"MLOPS_TEST_VALUE"]


def test_supplied_value_wins_over_a_literal(cluster, run):
    result = run("credentials", secrets=[LOGIN], supplied={"login": {"username": {"value": "sh0rt"}}})
    assert cluster.values("one/login")["username"] == b"sh0rt"
    # Ansible's own hiding is off for what is so short.
    assert_hidden(result["_output"], "sh0rt")


def test_a_short_supplied_value_cuts_no_holes_into_the_result(cluster, run):
    cluster.namespace("one", "two")
    result = run("credentials", secrets=[LOGIN], supplied={"login": {"password": {"value": "o"}}})
    assert result["secrets"][0]["name"] == "login"
    assert re.fullmatch(r"[0-9a-f]{16}", result["fingerprints"]["one/login"])


# --- existing Secrets -------------------------------------------------------------------------------------------------


def test_existing_secret_is_only_verified(cluster, run):
    cluster.secret("one/login", {"username": b"a", "password": b"b"})
    result = run("credentials", secrets=[login(namespaces=["one"], existing=True, keys={"username": {}})])
    assert result["changed"] is False
    assert result["secrets"][0]["key_names"] == ["username"]
    assert re.fullmatch(r"[0-9a-f]{16}", result["fingerprints"]["one/login"])
    assert cluster.writes() == []


def test_existing_secret_is_reported_by_its_variable(cluster, run):
    wanted = [login(namespaces=["one"], existing=True, variable="app_secret", keys={"username": {}})]
    assert run("credentials", secrets=wanted)["msg"] == (
        "The credentials are not ensured: app_secret is 'login': "
        "Secret one/login is not there, and must hold the keys username"
    )


def test_what_is_supplied_for_other_calls_is_checked_too(cluster, run):
    cluster.namespace("one", "two")
    result = run("credentials", secrets=[LOGIN], supplied={"other": {"password": {"env": "NOT_SET_ANYWHERE"}}})
    assert "platform_credentials.other.password" in result["msg"]
    assert "NOT_SET_ANYWHERE" in result["msg"]
    assert cluster.writes() == []


def test_existing_secret_fails_in_a_sentence(cluster, run):
    wanted = [login(namespaces=["one"], existing=True, keys={"username": {}, "password": {}})]
    assert run("credentials", secrets=wanted)["msg"] == (
        "The credentials are not ensured: Secret one/login is not there, and must hold the keys username, password"
    )
    cluster.secret("one/login", {"username": b"a", "pw": b"b"})
    assert run("credentials", secrets=wanted)["msg"] == (
        "The credentials are not ensured: Secret one/login lacks the key password: it has pw, username"
    )
    cluster.secret("one/login", {"username": b"a", "password": b""})
    result = run("credentials", secrets=wanted)
    assert result["msg"] == "The credentials are not ensured: Secret one/login has nothing in its key password"
    assert result["failed"] is True
    assert cluster.writes() == []


# --- check mode and differences ---------------------------------------------------------------------------------------


def test_check_mode_on_an_empty_cluster_says_what_would_be(cluster, run):
    result = run("credentials", check=True, secrets=[LOGIN])
    assert result["changed"] is True
    assert result["namespaces_created"] == ["one", "two"]
    assert [each["created"] for each in result["secrets"]] == [True, True]
    assert result["fingerprints"] == {"one/login": "", "two/login": ""}
    assert cluster.writes() == []
    assert cluster.objects == {}


def test_check_mode_on_a_live_cluster_changes_nothing(cluster, run):
    cluster.secret("one/login", {"username": b"mlflow", "password": b"one"})
    cluster.secret("two/login", {"username": b"mlflow", "password": b"two"})
    before = json.dumps(cluster.objects)
    result = run("credentials", check=True, secrets=[LOGIN])
    assert [each["updated"] for each in result["secrets"]] == [[], ["password"]]
    assert json.dumps(cluster.objects) == before
    assert cluster.writes() == []
    assert run("credentials", secrets=[LOGIN])["fingerprints"] == result["fingerprints"]


def test_difference_shows_names_only(cluster, run):
    cluster.secret("one/login", {"username": b"mlflow", "password": b"the-old-password", "zz": b"other"})
    result = run("credentials", secrets=[LOGIN], supplied={"login": {"password": {"value": PLANTED}}})
    header = "Secret one/login (names of keys)"
    assert result["diff"][1] == {
        "before_header": header,
        "after_header": header,
        "before": "password\nusername\nzz\n",
        "after": "password (new value)\nusername\nzz\n",
    }
    assert result["diff"][0]["before_header"] == "Namespace two"
    assert result["diff"][2]["before"] == ""
    for value in (PLANTED, "the-old-password"):
        assert_hidden(result["_output"], value)


# --- races and interruptions ------------------------------------------------------------------------------------------


def store(cluster) -> KubernetesStore:
    """Give a store of a fake cluster with a connection of its own."""
    return KubernetesStore(Api(Settings(server=cluster.url, source="test")))


def ensurer(where: Store) -> credentials.Ensurer:
    """Give an Ensurer that writes."""
    return credentials.Ensurer(where, check_mode=False, create_namespaces=True, namespace_labels={})


def wanted(**more: Any) -> credentials.SecretRequest:
    """Give the Secret of most tests, parsed."""
    options = {"type": "Opaque", "labels": {}, "existing": False, **login(**more)}
    return credentials.parse({"secrets": [options], "supplied": {}})[0]


def test_who_comes_second_takes_the_value_of_who_came_first(cluster):
    cluster.namespace("one", "two")
    others = []

    def another_writer(method: str, path: str) -> None:
        if method == "POST" and not others:
            others.append(path)
            cluster.secret("one/login", {"username": b"mlflow", "password": b"theirs"})

    cluster.before = another_writer
    outcomes = ensurer(store(cluster)).ensure(wanted())
    assert cluster.values("one/login")["password"] == b"theirs"
    assert cluster.values("two/login")["password"] == b"theirs"
    assert [each.created for each in outcomes] == [False, True]
    assert [each.generated for each in outcomes] == [[], []]


def test_secrets_are_ensured_side_by_side_in_a_namespace_that_is_made_once(cluster):
    pair = threading.Barrier(2, timeout=10)

    def in_pairs(method: str, path: str) -> None:
        if method == "POST":
            pair.wait()

    cluster.before = in_pairs
    four = [wanted(name=f"login-{number}", namespaces=["one"]) for number in range(4)]
    lead = credentials.Ensurer(
        store(cluster), False, create_namespaces=True, namespace_labels={}, another_store=lambda: store(cluster)
    )
    outcomes = lead.ensure_all(four)
    assert [each.name for each in outcomes] == [each.name for each in four]
    assert all(each.created for each in outcomes)
    assert lead.namespaces_created == ["one"]
    assert set(lead.fingerprints) == {f"one/{each.name}" for each in four}


def test_secrets_of_one_name_are_ensured_in_their_order(cluster):
    cluster.namespace("one", "two", "three", "four")
    lead = credentials.Ensurer(
        store(cluster), False, create_namespaces=True, namespace_labels={}, another_store=lambda: store(cluster)
    )
    made = wanted(namespaces=["one"])
    others = [wanted(name=f"login-{number}") for number in range(3)]
    seen = wanted(namespaces=["one"], existing=True)
    outcomes = lead.ensure_all([made, *others, seen])
    assert [each.created for each in outcomes] == [True] * 7 + [False]


def test_an_update_gives_way_to_one_that_came_first(cluster):
    cluster.secret("one/login", {"username": b"mlflow"})
    cluster.secret("two/login", {"username": b"mlflow"})
    others = []

    def another_writer(method: str, path: str) -> None:
        if method == "PATCH" and not others:
            others.append(path)
            cluster.secret("one/login", {"username": b"mlflow", "password": b"theirs"})

    cluster.before = another_writer
    outcomes = ensurer(store(cluster)).ensure(wanted())
    assert cluster.values("one/login")["password"] == b"theirs"
    assert cluster.values("two/login")["password"] == b"theirs"
    assert [each.updated for each in outcomes] == [[], ["password"]]


def test_a_secret_that_is_deleted_meanwhile_is_created_again(cluster):
    cluster.secret("one/login", {"username": b"mlflow"})
    deleted = []

    def another_writer(method: str, path: str) -> None:
        if method == "PATCH" and not deleted:
            deleted.append(cluster.objects.pop(path))

    cluster.before = another_writer
    outcomes = ensurer(store(cluster)).ensure(wanted(namespaces=["one"]))
    assert outcomes[0].created
    assert outcomes[0].generated == ["password"]


def test_gives_up_in_a_sentence_where_another_writer_never_stops(cluster):
    cluster.secret("one/login", {"username": b"mlflow"})

    def another_writer(method: str, path: str) -> None:
        if method == "PATCH":
            cluster.store(path, cluster.objects[path])

    cluster.before = another_writer
    with pytest.raises(KubeError, match="Secret one/login is changed by another writer all the time"):
        ensurer(store(cluster)).ensure(wanted(namespaces=["one"]))


def test_many_at_once_agree_and_lose_nothing(cluster):
    cluster.namespace("one", "two")
    written: dict[str, set[bytes]] = {"one": set(), "two": set()}
    post = cluster._post

    def noted(path, query, body, kind):
        answer = post(path, query, body, kind)
        if answer[0] == 201:
            written[path.split("/")[4]].add(base64.b64decode(body["data"]["password"]))
        return answer

    cluster._post = noted
    barrier = threading.Barrier(6)
    failures: list[Exception] = []

    def work() -> None:
        try:
            barrier.wait()
            ensurer(store(cluster)).ensure(wanted())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _unused in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert written["one"] == {cluster.values("one/login")["password"]}, "the value that was written first stayed"
    assert written["two"] == written["one"]


class MemoryStore(Store):
    """A store in memory that fails after a number of writes, as if the process was killed."""

    def __init__(self, secrets: dict[str, dict[str, bytes]]) -> None:
        self.secrets = secrets
        self.writes_left = 1000

    def read(self, namespace: str, name: str) -> Secret | None:
        data = self.secrets.get(namespace)
        return None if data is None else Secret(namespace, name, dict(data), version=repr(sorted(data.items())))

    def _write(self, namespace: str, data: dict[str, bytes]) -> None:
        if not self.writes_left:
            raise KeyboardInterrupt
        self.writes_left -= 1
        self.secrets[namespace] = data

    def create(self, secret: Secret) -> None:
        if secret.namespace in self.secrets:
            raise Conflict
        self._write(secret.namespace, dict(secret.data))

    def update(self, secret: Secret, data: dict[str, bytes], labels: dict[str, str]) -> None:
        assert secret.version == repr(sorted(self.secrets[secret.namespace].items()))
        self._write(secret.namespace, {**self.secrets[secret.namespace], **data})

    def has_namespace(self, namespace: str) -> bool:
        return True

    def create_namespace(self, namespace: str, labels: dict[str, str]) -> None:
        raise AssertionError("it is there")


values_of_a_secret = st.dictionaries(st.sampled_from(["password", "other"]), st.binary(max_size=3), max_size=2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.dictionaries(st.sampled_from(["one", "two", "three"]), values_of_a_secret, max_size=3),
    killed_after=st.integers(0, 3),
)
def test_from_any_state_and_any_interruption_it_ends_well(monkeypatch, before, killed_after):
    monkeypatch.setattr(credentials, "fingerprint", lambda *_unused: "")
    memory = MemoryStore({namespace: dict(data) for namespace, data in before.items()})
    ask = wanted(namespaces=["one", "two", "three"])
    memory.writes_left = killed_after
    with contextlib.suppress(KeyboardInterrupt):
        ensurer(memory).ensure(ask)
    partial = next(
        (d["password"] for d in (memory.secrets.get(n, {}) for n in ask.namespaces) if d.get("password")), None
    )
    memory.writes_left = 1000
    ensurer(memory).ensure(ask)
    passwords = {data["password"] for data in memory.secrets.values()}
    assert len(passwords) == 1
    original = next((before[n]["password"] for n in ask.namespaces if before.get(n, {}).get("password")), None)
    assert partial is None or passwords == {partial}, "a value that had been written was lost"
    assert original is None or passwords == {original}, "a value that was there was lost"
    assert all(memory.secrets[n].get("other") == data.get("other") for n, data in before.items())
    assert not any(each.changed for each in ensurer(memory).ensure(ask))


# --- failures ---------------------------------------------------------------------------------------------------------


def assert_hidden(text: str, value: str) -> None:
    """Look for a value as it is, in JSON and in base64."""
    raw = value.encode()
    for form in (
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        base64.b64encode(raw).decode(),
    ):
        assert form not in text


def test_an_echo_of_the_api_server_is_not_passed_on(cluster, run):
    cluster.namespace("one", "two")
    secret = "planted-secret-value"
    for form in (secret, base64.b64encode(secret.encode()).decode()):
        cluster.answers["POST /api/v1/namespaces/one/secrets"] = cluster.status(
            400, "BadRequest", f"webhook says: data {form} is bad"
        )
        result = run("credentials", secrets=[LOGIN], supplied={"login": {"password": {"value": secret}}})
        assert result["msg"] == (
            "The credentials are not ensured: Secret one/login cannot be written, the API server answered with 400"
        )
        assert_hidden(result["_output"], secret)
        assert form not in result["_output"]


def test_a_harmless_message_of_the_api_server_is_passed_on(cluster, run):
    cluster.namespace("one", "two")
    cluster.answers["POST /api/v1/namespaces/one/secrets"] = cluster.status(403, "Forbidden", "exceeded quota: small")
    assert run("credentials", secrets=[LOGIN])["msg"].endswith("answered with 403: exceeded quota: small")


def test_an_unforeseen_error_is_not_shown(cluster, run, monkeypatch):
    def explode(*_args: Any) -> None:
        raise RuntimeError("sh0rt")

    monkeypatch.setattr(KubernetesStore, "read", explode)
    result = run("credentials", secrets=[LOGIN], supplied={"login": {"password": {"value": "sh0rt"}}})
    assert "RuntimeError" in result["msg"]
    assert_hidden(result["_output"], "sh0rt")


def test_immutable_and_other_type_fail_in_a_sentence(cluster, run):
    cluster.secret("one/login", {"username": b"other"}, immutable=True)
    assert (
        "Secret one/login is immutable, so that its key password cannot" in run("credentials", secrets=[LOGIN])["msg"]
    )
    cluster.secret("one/login", {"username": b"mlflow"}, type="Opaque")
    result = run("credentials", secrets=[login(type="kubernetes.io/basic-auth")])
    assert "is of type Opaque and must be kubernetes.io/basic-auth" in result["msg"]
    assert cluster.writes() == []


def test_a_value_that_has_to_stay_is_not_replaced(cluster, run):
    kept = {"name": "kept", "namespaces": ["one", "two"], "keys": {"passphrase": {}}, "immutable": True}
    former, other = {"passphrase": {"value": "of the archive"}}, {"passphrase": {"value": "another one"}}
    assert run("credentials", secrets=[kept], supplied={"kept": former})["changed"] is True
    cluster.requests.clear()
    result = run("credentials", secrets=[kept], supplied={"kept": other})
    assert "Secret one/kept has another value of passphrase" in result["msg"]
    assert cluster.writes() == []
    assert run("credentials", secrets=[kept], supplied={"kept": former})["changed"] is False
    assert run("credentials", secrets=[{**kept, "immutable": False}], supplied={"kept": other})["changed"] is True


def test_a_key_that_is_not_supplied_fails_in_a_sentence(cluster, run):
    cluster.namespace("one")
    result = run("credentials", secrets=[login(keys={"token": {}})])
    assert result["msg"] == (
        "The credentials are not ensured: Secret one/login lacks the key token, "
        "and platform_credentials.login.token does not supply it"
    )


def test_a_missing_namespace_may_be_left_to_others(cluster, run):
    result = run("credentials", secrets=[LOGIN], create_namespaces=False)
    assert result["msg"].endswith("Secret one/login cannot be created: its namespace is not there")


def test_waits_for_a_namespace_that_is_being_deleted(cluster):
    path = "/api/v1/namespaces/one"
    cluster.store(path, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            del cluster.objects[path]

    where = KubernetesStore(Api(Settings(server=cluster.url, source="test")), sleep=sleep)
    ensurer(where).ensure(wanted(namespaces=["one"]))
    assert len(slept) == 3
    assert "password" in cluster.values("one/login")


def test_a_namespace_that_does_not_go_fails_in_a_sentence(cluster):
    cluster.store("/api/v1/namespaces/one", {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    times = iter(range(0, 1000, 50))
    where = KubernetesStore(
        Api(Settings(server=cluster.url, source="test")), clock=lambda: next(times), sleep=lambda _seconds: None
    )
    with pytest.raises(KubeError, match="namespace one has been on its way out for 120 s"):
        ensurer(where).ensure(wanted(namespaces=["one"]))


@pytest.mark.parametrize(
    ("more", "supplied", "message"),
    [
        ({"name": "Login"}, {}, "'Login' is no name of a Secret"),
        ({"namespaces": []}, {}, "Secret login needs a namespace"),
        ({"namespaces": ["a.b"]}, {}, "'a.b' is no name of a namespace for Secret login"),
        ({"keys": {}}, {}, "Secret login needs at least one key"),
        ({"keys": {"a b": {}}}, {}, "key a b of Secret login: a key's name has"),
        ({"keys": {"a": "x"}}, {}, "key a of Secret login must be a dictionary"),
        ({"keys": {"a": {"value": 1}}}, {}, "key a of Secret login: value must be a string"),
        ({"keys": {"a": {"value": "x", "length": 3}}}, {}, "key a of Secret login: value must be a string"),
        ({"keys": {"a": {"length": 30}}}, {}, "key a of Secret login: length needs generate"),
        ({"keys": {"a": {"generate": "uuid"}}}, {}, "generate is 'uuid', and must be one of password, hex, fernet"),
        ({"keys": {"a": {"generate": "hex", "length": 4}}}, {}, "length is 4, and must be from 8 to 1024"),
        ({"keys": {"a": {"generate": "hex", "length": True}}}, {}, "length is True, and must be from 8 to 1024"),
        ({"keys": {"a": {"generate": "hex", "length": "many"}}}, {}, "length is 'many', and must be"),
        ({"keys": {"a": {"generate": "fernet", "length": 32}}}, {}, "length is 32, and must be 44 for fernet"),
        ({}, {"login": "x"}, "platform_credentials.login must be a dictionary"),
        ({}, {"login": {"passwrod": {"value": "x"}}}, "has 'passwrod', and may have username, password"),
        ({}, {"login": {"password": "x"}}, "platform_credentials.login.password must be a dictionary with exactly one"),
        ({}, {"login": {"password": {"value": "x", "env": "y"}}}, "must be a dictionary with exactly one of"),
        ({}, {"login": {"password": {"vault": "x"}}}, "must be a dictionary with exactly one of env, file and value"),
        ({}, {"login": {"password": {"value": 12345}}}, "login.password.value must be a string: put it in quotes"),
        ({}, {"login": {"password": {"value": ""}}}, "login.password: the value is empty"),
        ({}, {"login": {"password": {"env": "NO_SUCH_THING"}}}, "the environment variable NO_SUCH_THING is not set"),
        ({}, {"login": {"password": {"file": "/no/such"}}}, "the file /no/such cannot be read (No such file or dir"),
        ({"existing": True}, {"login": {"password": {"value": "x"}}}, "declared as an existing one"),
    ],
)
def test_wrong_input_fails_in_a_sentence_before_any_request(cluster, run, more, supplied, message):
    result = run("credentials", secrets=[login(**more)], supplied=supplied)
    assert result["failed"] is True
    assert message in result["msg"]
    assert "\n" not in result["msg"]
    assert cluster.requests == []


# --- generated values and digests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 9, 32, 1024])
def test_generated_values_have_their_form(length):
    password = credentials.generate("password", length).decode()
    assert re.fullmatch(rf"[A-Za-z0-9]{{{length}}}", password)
    assert any(c.islower() for c in password)
    assert any(c.isupper() for c in password)
    assert any(c.isdigit() for c in password)
    assert re.fullmatch(rf"[0-9a-f]{{{length}}}", credentials.generate("hex", length).decode())
    fernet = credentials.generate("fernet", 44)
    assert len(fernet) == 44
    assert len(base64.urlsafe_b64decode(fernet)) == 32
    assert credentials.generate("password", 32) != credentials.generate("password", 32)


def test_fingerprint_is_known_and_depends_on_all_it_should():
    # A known answer: were it another one, each upgrade would restart every pod.
    base = credentials.fingerprint("mlflow", "login", {"a": b"1", "b": b"2"})
    assert base == "5b16307fa6c94f5a"
    assert credentials.fingerprint("mlflow", "login", {"b": b"2", "a": b"1"}) == base
    others = [
        credentials.fingerprint("other", "login", {"a": b"1", "b": b"2"}),
        credentials.fingerprint("mlflow", "other", {"a": b"1", "b": b"2"}),
        credentials.fingerprint("mlflow", "login", {"a": b"1", "b": b"3"}),
        credentials.fingerprint("mlflow", "login", {"a": b"1", "c": b"2"}),
        credentials.fingerprint("mlflow", "login", {"a": b"1"}),
    ]
    assert len({base, *others}) == 6
