# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of credentials as SealedSecrets, with a controller in memory that opens what is sealed."""

from __future__ import annotations

import base64
import copy
import itertools
import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict, Secret
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import Controller
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    LAST_APPLIED,
    load,
    scope_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.store import SealedStore
from ansible_collections.mlops.mlflow.plugins.plugin_utils import credentials

PROXY = "/api/v1/namespaces/sealed-secrets/services/http:sealed-secrets-controller:http/proxy"
PLANTED = "pl4nted 'quo\"tes' {{ jinja }} $HOME \\back\nline ünïcode % & ; # é"


def secret_path(place: str) -> str:
    namespace, name = place.split("/")
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"


def sealed_path(place: str) -> str:
    namespace, name = place.split("/")
    return f"/apis/bitnami.com/v1alpha1/namespaces/{namespace}/sealedsecrets/{name}"


@pytest.fixture
def ensure(world, monkeypatch):
    """A function that ensures a Secret as the module does, and gives the Ensurer and what it did by namespace."""
    monkeypatch.setattr(credentials, "fingerprint", lambda *_unused: "digest")

    def ensured(
        backend: str = "sealed_secrets",
        *,
        scope: str = "strict",
        output: bool = True,
        check: bool = False,
        supplied: str = "",
        create_namespaces: bool = True,
        **more: Any,
    ) -> tuple[credentials.Ensurer, dict[str, credentials.EnsuredSecret]]:
        where = store(world, scope, output) if backend == "sealed_secrets" else secrets(world)
        ensurer = credentials.Ensurer(where, check_mode=check, create_namespaces=create_namespaces, namespace_labels={})
        done = ensurer.ensure(wanted(supplied, **more))
        return ensurer, {each.namespace: each for each in done}

    return ensured


def ticking() -> dict[str, Any]:
    """A clock on which each look at it takes a second, so that nothing is waited for."""
    time = itertools.count()
    return {"clock": lambda: float(next(time)), "sleep": lambda _seconds: None}


def secrets(world: Any) -> KubernetesStore:
    return KubernetesStore(Api(Settings(server=world.cluster.url, source="the tests")), **ticking())


def store(world: Any, scope: str = "strict", output: bool = True) -> SealedStore:
    api = Api(Settings(server=world.cluster.url, source="the tests"))
    controller = Controller(api, "sealed-secrets", **ticking())
    return SealedStore(secrets(world), controller, str(world.folder) if output else "", scope)


def wanted(supplied: str = "", **more: Any) -> credentials.SecretRequest:
    given = {
        "name": "login",
        "namespaces": ["one", "two"],
        "type": "Opaque",
        "labels": {},
        "existing": False,
        "keys": {"username": {"value": "mlflow"}, "password": {"generate": "password"}},
        **more,
    }
    values = {"login": {"password": {"value": supplied}}} if supplied else {}
    return credentials.parse({"secrets": [given], "supplied": values})[0]


def state(world: Any) -> tuple[Any, Any]:
    """What a run may not change: objects and files."""
    return copy.deepcopy(world.cluster.objects), {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in world.folder.rglob("*") if path.is_file()
    }


# --- what is sealed ---------------------------------------------------------------------------------------------------


def test_seals_in_all_namespaces_and_has_nothing_to_do_next(world, ensure):
    _unused, done = ensure(labels={"team": "ml"})
    assert all(each.created and each.generated == ["password"] for each in done.values())
    assert world.cluster.values("one/login") == world.cluster.values("two/login")
    for place in ("one/login", "two/login"):
        file = load(world.file(place).read_text(), "it")
        assert world.open(file) == world.cluster.values(place)
        assert file["spec"] == world.sealed(place)["spec"]
        assert world.secret(place)["metadata"]["labels"] == {"team": "ml"}
        assert world.file(place).stat().st_mode & 0o777 == 0o644
    before = state(world)
    world.cluster.requests.clear()
    _unused, done = ensure(labels={"team": "ml"})
    assert not any(each.changed for each in done.values())
    assert world.cluster.writes() == []
    assert state(world) == before


def test_no_value_stands_in_what_is_sent_or_written(world, ensure):
    ensure(supplied=PLANTED)
    assert world.cluster.values("one/login")["password"] == PLANTED.encode()
    shown = json.dumps([each for path, each in world.cluster.objects.items() if "/sealedsecrets/" in path])
    files = "".join(path.read_text() for path in world.folder.rglob("*.yaml"))
    for form in (PLANTED, base64.b64encode(PLANTED.encode()).decode()):
        assert form not in shown + files


def test_without_a_folder_nothing_is_written(world, ensure):
    ensure(output=False)
    assert not world.folder.exists()
    assert not any(each.changed for each in ensure(output=False)[1].values())


def test_a_supplied_value_is_sealed_and_others_keep_their_form(world, ensure):
    ensure()
    before = copy.deepcopy(world.sealed("one/login")["spec"]["encryptedData"])
    world.sealed("one/login")["metadata"]["annotations"] = {"note": "a user's"}
    _unused, done = ensure(supplied="supplied")
    after = world.sealed("one/login")["spec"]["encryptedData"]
    assert after["username"] == before["username"]
    assert after["password"] != before["password"]
    assert world.cluster.values("one/login")["password"] == world.cluster.values("two/login")["password"] == b"supplied"
    assert world.sealed("one/login")["metadata"]["annotations"] == {"note": "a user's"}
    assert done["one"].updated == ["password"]
    assert not any(each.changed for each in ensure(supplied="supplied")[1].values())


@pytest.mark.parametrize("scope", ["namespace-wide", "cluster-wide"])
def test_the_scope_is_changed_there_and_back(world, ensure, scope):
    ensure()
    values = world.cluster.values("one/login")
    for asked in (scope, "strict"):
        _unused, done = ensure(scope=asked)
        assert done["one"].converted[0] == f"sealed again, {asked}"
        assert scope_of(world.sealed("one/login")) == asked
        assert world.cluster.values("one/login") == values
        assert not any(each.changed for each in ensure(scope=asked)[1].values())


def test_a_value_that_was_changed_beside_it_is_sealed(world, ensure):
    ensure()
    world.by_hand("one/login", password=b"by hand")
    _unused, done = ensure()
    assert done["one"].converted[0] == "sealed again, since a value was changed beside it"
    assert world.open(world.sealed("one/login"))["password"] == b"by hand"
    assert world.cluster.values("two/login")["password"] == b"by hand"
    assert not any(each.changed for each in ensure()[1].values())


def test_a_key_that_was_added_beside_it_is_sealed(world, ensure):
    ensure()
    world.by_hand("one/login", theirs=b"kept")
    _unused, done = ensure()
    assert done["one"].converted[0] == "sealed again, with all keys"
    assert world.open(world.sealed("one/login"))["theirs"] == b"kept"
    assert not any(each.changed for each in ensure()[1].values())


def test_one_that_cannot_be_opened_any_more_is_sealed_again(world, ensure, sealing_secrets):
    ensure()
    values = world.cluster.values("one/login")
    other = sealing_secrets[0]["data"]
    world.keys, world.certificate = [base64.b64decode(other["tls.key"])], base64.b64decode(other["tls.crt"])
    for place in ("one/login", "two/login"):
        world.sealed(place)["metadata"]["generation"] += 1
    world.look()
    _unused, done = ensure()
    assert done["one"].converted[0] == "sealed again, since the controller cannot open it"
    assert world.cluster.values("one/login") == values == world.open(world.sealed("one/login"))


def test_check_mode_tells_and_writes_nothing(world, ensure):
    before = state(world)
    ensurer, done = ensure(check=True, namespaces=["one", "three"])
    assert all(each.created for each in done.values())
    assert ensurer.namespaces_created == ["three"]
    assert state(world) == before
    ensure()
    world.file("two/login").unlink()
    before = state(world)
    _unused, done = ensure(check=True)
    assert (done["one"].changed, done["two"].changed) == (False, True)
    assert state(world) == before


# --- what is taken over -----------------------------------------------------------------------------------------------


def test_a_plain_secret_is_taken_over_whole_and_given_back(world, ensure):
    metadata = {"labels": {"team": "ml"}, "annotations": {"note": "ours", LAST_APPLIED: "{}"}}
    world.cluster.secret("one/login", {"password": b"old", "theirs": b"kept"}, metadata=metadata, type="Opaque")
    _unused, done = ensure()
    assert done["one"].converted[0] == "sealed"
    values = {"username": b"mlflow", "password": b"old", "theirs": b"kept"}
    assert world.cluster.values("one/login") == values == world.open(world.sealed("one/login"))
    assert world.secret("one/login")["metadata"]["labels"] == {"team": "ml"}
    assert world.secret("one/login")["metadata"]["annotations"] == {"note": "ours"}
    assert not any(each.changed for each in ensure()[1].values())
    _unused, done = ensure("kubernetes")
    assert done["one"].converted == ["released from its SealedSecret"]
    assert sealed_path("one/login") not in world.cluster.objects
    assert world.secret("one/login")["metadata"]["ownerReferences"] == []
    assert world.cluster.values("one/login") == values
    assert not any(each.changed for each in ensure("kubernetes")[1].values())


def test_an_immutable_secret_is_taken_over(world, ensure):
    data = {"username": b"mlflow", "password": b"old"}
    world.cluster.secret("one/login", data, immutable=True, type="Opaque")
    ensure(namespaces=["one"])
    assert world.cluster.values("one/login") == data
    assert world.sealed("one/login")["spec"]["template"]["immutable"] is True
    before = state(world)
    with pytest.raises(KubeError, match="is immutable, so that its key password cannot be written"):
        ensure(namespaces=["one"], supplied="another")
    assert state(world) == before


def test_a_type_is_kept(world, ensure):
    kind = "kubernetes.io/basic-auth"
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old"}, type=kind)
    ensure(namespaces=["one"])
    assert world.secret("one/login")["type"] == kind


def test_one_of_an_external_secret_is_released_first(world, ensure):
    managed = {"labels": {"reconcile.external-secrets.io/managed": "true", "team": "ml"}}
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old"}, metadata=managed, type="Opaque")
    path = "/apis/external-secrets.io/v1/namespaces/one/externalsecrets/login"
    world.cluster.store(path, {"spec": {"target": {"creationPolicy": "Orphan", "deletionPolicy": "Retain"}}})
    world.down = True
    with pytest.raises(KubeError, match="does not answer"):
        ensure(namespaces=["one"])
    assert path in world.cluster.objects, "nothing is changed while nothing can be sealed"
    world.down = False
    ensure(namespaces=["one"])
    assert path not in world.cluster.objects
    assert world.cluster.values("one/login")["password"] == b"old"
    assert world.secret("one/login")["metadata"]["labels"] == {"team": "ml"}
    assert not any(each.changed for each in ensure(namespaces=["one"])[1].values())


def test_one_is_left_to_cert_manager_and_taken_back(world, ensure):
    """Its file goes too, from which the SealedSecret would be made again; its values stay each time."""
    left = {"common_name": "", "hosts": [], "days": 90, "authority": "", "ca": False, "client": False, "issuer": "ours"}
    left = {"keys": {}, "type": "kubernetes.io/tls", "certificate": left}
    ensure(namespaces=["one"])
    values = world.cluster.values("one/login")
    path = f"file {world.file('one/login')} removed"
    before = state(world)
    expected = ["released from its SealedSecret", "to be issued again", path]
    assert ensure(namespaces=["one"], check=True, **left)[1]["one"].converted == expected
    assert state(world) == before
    assert ensure(namespaces=["one"], **left)[1]["one"].converted == expected
    assert sealed_path("one/login") not in world.cluster.objects
    assert not world.file("one/login").exists()
    assert not ensure(namespaces=["one"], **left)[1]["one"].changed

    certificate = "/apis/cert-manager.io/v1/namespaces/one/certificates/login"
    world.cluster.store(certificate, {"spec": {}})
    world.secret("one/login")["metadata"]["annotations"] = {"cert-manager.io/certificate-name": "login"}
    ensure(namespaces=["one"])
    assert certificate not in world.cluster.objects
    assert world.cluster.values("one/login") == values == world.open(world.sealed("one/login"))
    assert "cert-manager.io/certificate-name" not in str(world.sealed("one/login")["spec"])
    assert not ensure(namespaces=["one"])[1]["one"].changed


def test_many_namespaces_are_released_in_one_run(world, ensure):
    names = [f"n{number}" for number in range(12)]
    managed = {"labels": {"reconcile.external-secrets.io/managed": "true"}}
    for name in names:
        metadata = copy.deepcopy(managed)
        world.cluster.secret(f"{name}/login", {"username": b"x", "password": b"old"}, metadata=metadata, type="Opaque")
    ensure(namespaces=names, output=False)
    assert world.cluster.values("n11/login") == {"username": b"mlflow", "password": b"old"}


@pytest.mark.parametrize("owner", ["gone", "replaced"])
def test_a_secret_of_a_sealed_secret_that_is_gone_is_kept(world, ensure, owner):
    """Deleting a SealedSecret deletes its Secret, unless a run comes before the garbage collector."""
    ensure(namespaces=["one"])
    values = world.cluster.values("one/login")
    sealed = world.cluster.objects.pop(sealed_path("one/login"))
    if owner == "replaced":
        sealed["metadata"] |= {"uid": "another"}
        sealed["metadata"]["generation"] += 1
        world.cluster.store(sealed_path("one/login"), sealed)
        world.look()
    ensure(namespaces=["one"])
    owners = world.secret("one/login")["metadata"]["ownerReferences"]
    assert [each["uid"] for each in owners] == [world.sealed("one/login")["metadata"]["uid"]]
    assert world.cluster.values("one/login") == values
    assert not ensure(namespaces=["one"])[1]["one"].changed


# --- what comes back --------------------------------------------------------------------------------------------------


def test_comes_back_from_the_files(world, ensure):
    ensure()
    values, files = world.cluster.values("one/login"), state(world)[1]
    for place in ("one/login", "two/login"):
        del world.cluster.objects[sealed_path(place)], world.cluster.objects[secret_path(place)]
    before = state(world)
    ensurer, done = ensure(check=True)
    assert all(each.created and not each.generated for each in done.values())
    assert ensurer.fingerprints == {"one/login": "", "two/login": ""}
    assert state(world) == before
    _unused, done = ensure()
    assert all(each.created and not each.generated for each in done.values())
    assert world.cluster.values("one/login") == world.cluster.values("two/login") == values
    assert state(world)[1] == files


def test_comes_back_where_another_namespace_has_it(world, ensure):
    ensure()
    values = world.cluster.values("one/login")
    del world.cluster.objects[sealed_path("two/login")], world.cluster.objects[secret_path("two/login")]
    world.file("two/login").unlink()
    _unused, done = ensure()
    assert (done["one"].changed, done["two"].created, done["two"].generated) == (False, True, [])
    assert world.cluster.values("two/login") == values


def test_a_secret_that_was_just_deleted_is_waited_for(world, ensure):
    ensure(namespaces=["one"])
    values = world.cluster.values("one/login")
    world.down = True
    del world.cluster.objects[secret_path("one/login")]
    looks = itertools.count()

    def wake(method: str, path: str) -> None:
        if path == secret_path("one/login") and next(looks) == 3:
            world.down = False

    world.cluster.before = wake
    ensure(namespaces=["one"])
    assert world.cluster.values("one/login") == values


def test_a_secret_that_does_not_come_back(world, ensure):
    ensure(namespaces=["one"])
    world.down = True
    del world.cluster.objects[secret_path("one/login")]
    with pytest.raises(KubeError, match=r"has no Secret after 60 s: does .* run"):
        ensure(namespaces=["one"])


@pytest.mark.parametrize("backend", ["kubernetes", "sealed_secrets"])
def test_a_secret_that_only_its_sealed_secret_knows_is_not_generated_again(world, ensure, backend):
    ensure(namespaces=["one"])
    values = world.cluster.values("one/login")
    del world.cluster.objects[secret_path("one/login")]
    world.idle = True
    looks = itertools.count()

    def wake(method: str, path: str) -> None:
        if path == secret_path("one/login") and next(looks) == 1:
            world.idle = False

    world.cluster.before = wake
    _unused, done = ensure(backend, output=False, namespaces=["one"])
    assert world.cluster.values("one/login") == values
    assert done["one"].generated == []


def test_who_may_not_see_sealed_secrets_makes_secrets_all_the_same(world, ensure):
    world.cluster.answers[f"GET {sealed_path('one/login')}"] = world.cluster.status(403, "Forbidden", "sealedsecrets")
    assert ensure("kubernetes", namespaces=["one"])[1]["one"].created


def test_a_file_that_was_sealed_elsewhere_is_of_no_use(world, ensure, sealing_secrets):
    ensure(namespaces=["one"])
    del world.cluster.objects[sealed_path("one/login")], world.cluster.objects[secret_path("one/login")]
    world.keys = [base64.b64decode(sealing_secrets[0]["data"]["tls.key"])]
    before = state(world)
    with pytest.raises(KubeError, match="is of no use: no sealing key of this cluster opens it"):
        ensure(namespaces=["one"])
    assert state(world) == before


def test_no_advice_to_delete_files_without_access_to_the_controller(world, ensure):
    ensure(namespaces=["one"])
    del world.cluster.objects[sealed_path("one/login")], world.cluster.objects[secret_path("one/login")]
    world.cluster.answers[f"POST {PROXY}/v1/verify"] = world.cluster.status(403, "Forbidden", "services/proxy")
    with pytest.raises(KubeError) as error:
        ensure(namespaces=["one"])
    assert "delete the sealed file" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"kind: Secret\n", "does not hold one SealedSecret, and nothing else"),
        (b"\xff\xfe", "cannot be read \\(it is not text\\)"),
        (b"{", "is no YAML"),
    ],
)
def test_a_file_that_is_none_stops_before_anything_is_written(world, ensure, text, message):
    ensure()
    world.file("two/login").write_bytes(text)
    before = state(world)
    with pytest.raises(KubeError, match=message):
        ensure(supplied="another value of it")
    assert state(world) == before


def test_a_file_of_another_secret(world, ensure):
    ensure()
    world.file("two/login").write_bytes(world.file("one/login").read_bytes())
    with pytest.raises(KubeError, match="is of one/login, and its place is that of two/login"):
        ensure()


def test_a_file_that_cannot_be_written_leaves_nothing_beside_it(world, ensure):
    world.file("one/login").mkdir(parents=True)
    where = store(world)
    with pytest.raises(KubeError, match=r"the sealed file .* cannot be written"):
        where._write_file("one", "login", {"metadata": {"name": "login", "namespace": "one"}, "spec": {}})
    assert [each.name for each in (world.folder / "one").iterdir()] == ["login.yaml"]


# --- interruptions, and others at the same time -----------------------------------------------------------------------


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("start", "ask"),
    [
        ("nothing", {}),
        ("plain", {}),
        ("sealed", {"scope": "cluster-wide"}),
        ("sealed", {"supplied": "another"}),
    ],
)
def test_after_an_interruption_at_any_request_it_ends_well(world, ensure, monkeypatch, start, ask):
    if start == "plain":
        world.cluster.secret("two/login", {"username": b"mlflow", "password": b"old", "theirs": b"x"}, type="Opaque")
    if start == "sealed":
        ensure()
    begin = copy.deepcopy(world.cluster.objects)
    original = (begin.get(secret_path("two/login")) or {}).get("data", {}).get("password")
    files = {path: path.read_bytes() for path in world.folder.rglob("*.yaml")}
    request = Api.request
    for left in range(80):
        world.cluster.objects.clear()
        world.cluster.objects.update(copy.deepcopy(begin))
        for path in world.folder.rglob("*.yaml"):
            path.unlink()
        for path, text in files.items():
            path.write_bytes(text)
        count = itertools.count()

        def dying(self: Any, *args: Any, _count: Any = count, _left: int = left, **kwargs: Any) -> Any:
            if next(_count) == _left:
                raise KilledError
            return request(self, *args, **kwargs)

        monkeypatch.setattr(Api, "request", dying)
        try:
            ensure(**ask)
            ended = True
        except KilledError:
            ended = False
        monkeypatch.setattr(Api, "request", request)
        ensure(**ask)
        data = [world.secret(place)["data"] for place in ("one/login", "two/login")]
        assert data[0]["password"] == data[1]["password"]
        if original and "supplied" not in ask:
            assert data[0]["password"] == original
        assert data[1].get("theirs") == (begin.get(secret_path("two/login")) or {}).get("data", {}).get("theirs")
        assert not any(each.changed for each in ensure(**ask)[1].values()), left
        if ended:
            return
    raise AssertionError("it took more requests than expected")


def test_a_value_that_waits_for_the_controller_is_not_undone(world, ensure):
    """Interrupted between sealing and the controller: the Secret has the old value for a while yet."""
    ensure(namespaces=["one"])
    world.idle = True
    with pytest.raises(KubeError, match=r"is not unsealed after 60 s: does .* run"):
        ensure(namespaces=["one"], supplied="new")
    looks = itertools.count()

    def wake(method: str, path: str) -> None:
        if path == sealed_path("one/login") and next(looks) == 2:
            world.down = world.idle = False

    world.cluster.before = wake
    ensure(namespaces=["one"], scope="cluster-wide")
    assert world.cluster.values("one/login")["password"] == b"new"
    assert world.open(world.sealed("one/login"))["password"] == b"new"


def test_one_refused_during_the_wait_is_sealed_again(world, ensure):
    ensure(namespaces=["one"])
    values = world.cluster.values("one/login")
    sealed = world.sealed("one/login")
    sealed["spec"]["encryptedData"] = dict.fromkeys(values, "AAAA")
    sealed["metadata"]["generation"] += 1
    looks = itertools.count()
    world.down = True

    def wake(method: str, path: str) -> None:
        if path == sealed_path("one/login") and next(looks) == 2:
            world.down = world.idle = False

    world.cluster.before = wake
    ensure(namespaces=["one"])
    assert world.open(world.sealed("one/login")) == values == world.cluster.values("one/login")


def test_another_run_that_seals_between_two_reads_is_not_undone(world, ensure):
    ensure(namespaces=["one"])
    done = []

    def meanwhile(method: str, path: str) -> None:
        if method == "GET" and path == sealed_path("one/login") and not done:
            done.append(True)
            ensure(namespaces=["one"], supplied="theirs")

    world.cluster.before = meanwhile
    ensure(namespaces=["one"], scope="cluster-wide")
    assert world.cluster.values("one/login")["password"] == b"theirs"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_another_run_at_each_write(world, ensure, method):
    if method != "POST":
        world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old"}, type="Opaque")
    if method == "PUT":
        ensure(namespaces=["one"])
    done = []

    def meanwhile(asked: str, path: str) -> None:
        if asked == method and not done and not path.startswith(PROXY):
            done.append(True)
            ensure(namespaces=["one"], supplied="theirs")

    world.cluster.before = meanwhile
    ensure(namespaces=["one"], scope="cluster-wide")
    assert done
    assert world.cluster.values("one/login")["password"] == b"theirs"
    assert not ensure(namespaces=["one"], scope="cluster-wide")[1]["one"].changed


def test_two_runs_release_at_the_same_time(world, ensure):
    ensure(namespaces=["one"])
    values = world.cluster.values("one/login")
    done = []

    def meanwhile(method: str, path: str) -> None:
        if method == "DELETE" and not done:
            done.append(True)
            ensure("kubernetes", namespaces=["one"])

    world.cluster.before = meanwhile
    ensure("kubernetes", namespaces=["one"])
    assert world.cluster.values("one/login") == values


def test_a_secret_of_another_writer_is_found_again(world):
    where = store(world)
    where.create(Secret("one", "login", {"password": b"first"}))
    with pytest.raises(Conflict):
        where.create(Secret("one", "login", {"password": b"second"}))
    assert world.cluster.values("one/login") == {"password": b"first"}


# --- what is in the way -----------------------------------------------------------------------------------------------


def test_a_controller_that_is_down_changes_nothing(world, ensure):
    world.down = True
    before = state(world)
    with pytest.raises(KubeError, match=r"does not answer \(503\)"):
        ensure(namespaces=["three", "one"])
    assert state(world) == before


def test_a_certificate_that_is_none(world, ensure):
    world.certificate = b"<html>"
    before = state(world)
    with pytest.raises(KubeError, match=r"nothing can be sealed: .* is no certificate"):
        ensure(namespaces=["three"])
    assert state(world) == before


@pytest.mark.parametrize("backend", ["kubernetes", "sealed_secrets"])
def test_what_is_in_the_way_in_the_second_namespace_stops_before_the_first(world, ensure, backend):
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old"}, type="Opaque")
    world.cluster.secret("two/login", {"username": b"mlflow", "password": b"old"}, type="Opaque", immutable=True)
    before = state(world)
    with pytest.raises(KubeError, match="Secret two/login is immutable"):
        ensure(backend, supplied="another")
    with pytest.raises(KubeError, match="Secret three/login cannot be created: its namespace is not there"):
        ensure(backend, namespaces=["one", "three"], create_namespaces=False, labels={"team": "ml"})
    assert state(world) == before
