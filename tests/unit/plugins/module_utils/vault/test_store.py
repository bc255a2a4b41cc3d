# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of credentials in Vault and of both ways of delivery, with a Vault and an External Secrets operator in memory.

molecule/vault/tests has them with a real Vault, and with the operator's own definitions.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secret_store import KubernetesStore
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.secrets import Conflict
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import MANAGED, ExternalSecrets
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.store import ExternalStore, VaultStore
from ansible_collections.mlops.mlflow.plugins.plugin_utils import credentials

SEALED = "/apis/bitnami.com/v1alpha1/namespaces/{}/sealedsecrets/login"
EXTERNAL = "/apis/external-secrets.io/v1/namespaces/{}/externalsecrets/login"
SECRET = "/api/v1/namespaces/{}/secrets/login"


class Vault:
    """Entries with check-and-set, as VaultKV gives them.

    :ivar before_write: called before each write, to do what another writer does meanwhile
    """

    def __init__(self) -> None:
        self.entries: dict[str, tuple[dict[str, bytes], int]] = {}
        self.writes = 0
        self.before_write: Any = lambda: None

    def key(self, name: str) -> str:
        return f"mlflow/{name}"

    def place(self, name: str) -> str:
        return f"secret/mlflow/{name}"

    def read(self, name: str, keys: Iterable[str] = ()) -> tuple[dict[str, bytes], int]:
        values, version = self.entries.get(name, ({}, 0))
        return dict(values), version

    def write(self, name: str, data: dict[str, bytes], version: int) -> int:
        self.before_write()
        values, there = self.read(name)
        if there != version:
            raise Conflict
        self.writes += 1
        return self.put(name, {**values, **data})

    def put(self, name: str, values: dict[str, bytes]) -> int:
        version = self.entries.get(name, ({}, 0))[1] + 1
        self.entries[name] = (values, version)
        return version

    def values(self, name: str = "login") -> dict[str, bytes]:
        return self.entries[name][0]


class World:
    """A cluster with an operator, which looks after each write.

    :ivar down: whether the operator sleeps
    """

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.vault = Vault()
        self.down = False
        self._serve = cluster.serve
        cluster.serve = self.serve

    def serve(self, method: str, target: str, body: bytes, content_type: str) -> tuple[int, Any]:
        path = target.partition("?")[0]
        if "/externalsecrets/" not in path or method not in ("PATCH", "DELETE"):
            return self._serve(method, target, body, content_type)
        before = copy.deepcopy(self.cluster.objects.get(path))
        if "dryRun=All" in target:
            return 200, {**json.loads(body), "status": (before or {}).get("status")}
        code, answer = self._serve(method, target, body, content_type)
        if method == "PATCH":
            there = self.cluster.objects[path]
            old = (before or {}).get("metadata", {}).get("generation", 0)
            there["metadata"]["generation"] = old + (before is None or before["spec"] != there["spec"])
            there["metadata"].setdefault("annotations", (before or {}).get("metadata", {}).get("annotations", {}))
            there.pop("data", None)
            self.look(path)
        return code, answer

    def look(self, path: str) -> None:
        """Do what the operator does with an ExternalSecret."""
        found = self.cluster.objects[path]
        if self.down:
            return
        spec, (values, _version) = found["spec"], self.vault.entries[found["spec"]["data"][0]["remoteRef"]["key"][7:]]
        data = {each["secretKey"]: values.get(each["remoteRef"]["property"]) for each in spec["data"]}
        state = "False" if None in data.values() else "True"
        if state == "True":
            place = path.replace("/apis/external-secrets.io/v1", "/api/v1").replace("externalsecrets", "secrets")
            there = self.cluster.objects.get(place, {"metadata": {}, "type": spec["target"]["template"]["type"]})
            labels = spec["target"]["template"]["metadata"]["labels"]
            there["metadata"]["labels"] = {**(there["metadata"].get("labels") or {}), **labels, MANAGED: "true"}
            there["data"] = {key: base64.b64encode(value or b"").decode() for key, value in data.items()}
            self.cluster.store(place, there)
        found["status"] = {
            "conditions": [{"type": "Ready", "status": state, "reason": "Reason"}],
            "syncedResourceVersion": f"{found['metadata']['generation']}-x",
        }

    def external(self, namespace: str) -> dict[str, Any] | None:
        return self.cluster.objects.get(EXTERNAL.format(namespace))


@pytest.fixture
def world(cluster):
    cluster.namespace("one", "two")
    return World(cluster)


def ticking() -> dict[str, Any]:
    """A clock on which each look at it takes a second, so that nothing is waited for."""
    time = itertools.count()
    return {"clock": lambda: float(next(time)), "sleep": lambda _seconds: None}


def store(world: World, delivery: str) -> VaultStore:
    api = Api(Settings(server=world.cluster.url, source="the tests"))
    secrets = KubernetesStore(api, **ticking())
    vault: Any = world.vault
    if delivery == "secrets":
        return VaultStore(vault, secrets)
    external = ExternalSecrets(api, **ticking())
    return VaultStore(vault, ExternalStore(secrets, external, vault, {"name": "vault", "kind": "ClusterSecretStore"}))


@pytest.fixture
def ensure(world, monkeypatch):
    """A function that ensures a Secret as the module does, and gives the Ensurer and what it did by namespace."""
    monkeypatch.setattr(credentials, "fingerprint", lambda *_unused: "digest")

    def ensured(
        delivery: str = "secrets", check: bool = False, supplied: str = "", **more: Any
    ) -> tuple[credentials.Ensurer, dict[str, credentials.EnsuredSecret]]:
        api = Api(Settings(server=world.cluster.url, source="the tests"))
        where = KubernetesStore(api, **ticking()) if delivery == "kubernetes" else store(world, delivery)
        ensurer = credentials.Ensurer(where, check_mode=check, create_namespaces=True, namespace_labels={})
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
        [wanted] = credentials.parse({"secrets": [given], "supplied": values})
        return ensurer, {each.namespace: each for each in ensurer.ensure(wanted)}

    return ensured


def state(world: World) -> Any:
    return copy.deepcopy((world.cluster.objects, world.vault.entries))


both = pytest.mark.parametrize("delivery", ["secrets", "external_secrets"])


# --- what is kept and delivered ---------------------------------------------------------------------------------------


@both
def test_generates_writes_to_vault_and_delivers_and_has_nothing_to_do_next(world, ensure, delivery):
    ensurer, done = ensure(delivery, labels={"team": "ml"})
    assert [(each.path, each.created, each.updated) for each in ensurer.kept] == [("secret/mlflow/login", True, [])]
    assert all(each.created and each.generated == ["password"] for each in done.values())
    values = world.vault.values()
    assert world.cluster.values("one/login") == world.cluster.values("two/login") == values
    assert world.cluster.objects[SECRET.format("one")]["metadata"]["labels"]["team"] == "ml"
    before = state(world)
    world.cluster.requests.clear()
    ensurer, done = ensure(delivery, labels={"team": "ml"})
    assert not ensurer.kept
    assert not any(each.changed for each in done.values())
    assert [each for each in world.cluster.writes() if "dryRun=All" not in each] == []
    assert state(world) == before


@both
def test_what_vault_has_wins_and_other_keys_stay(world, ensure, delivery):
    world.vault.put("login", {"username": b"mlflow", "password": b"of Vault", "theirs in Vault": b"kept"})
    world.cluster.secret("two/login", {"username": b"mlflow", "password": b"of the cluster"}, type="Opaque")
    _unused, done = ensure(delivery)
    assert world.cluster.values("one/login")["password"] == world.cluster.values("two/login")["password"] == b"of Vault"
    assert done["two"].updated == ["password"]
    assert world.vault.values()["theirs in Vault"] == b"kept"
    assert world.vault.writes == 0


@both
def test_what_vault_lacks_is_taken_from_the_cluster(world, ensure, delivery):
    world.vault.put("login", {"username": b"mlflow", "password": b""})
    world.cluster.secret("two/login", {"username": b"mlflow", "password": b"old"}, type="Opaque")
    ensurer, done = ensure(delivery)
    assert ensurer.kept[0].updated == ["password"]
    assert not done["one"].generated
    assert world.vault.values()["password"] == world.cluster.values("one/login")["password"] == b"old"


@both
def test_a_supplied_value_wins_over_vault(world, ensure, delivery):
    ensure(delivery)
    ensurer, done = ensure(delivery, supplied="supplied")
    assert ensurer.kept[0].updated == ["password"]
    assert done["one"].updated == done["two"].updated == ["password"]
    assert world.vault.values()["password"] == world.cluster.values("two/login")["password"] == b"supplied"
    assert not any(each.changed for each in ensure(delivery, supplied="supplied")[1].values())


@both
def test_check_mode_writes_neither_to_vault_nor_to_the_cluster(world, ensure, delivery):
    before = state(world)
    ensurer, done = ensure(delivery, check=True, namespaces=["one", "three"])
    assert (ensurer.kept[0].created, ensurer.namespaces_created) == (True, ["three"])
    assert all(each.created for each in done.values())
    assert state(world) == before
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old"}, type="Opaque")
    before = state(world)
    ensurer, done = ensure(delivery, check=True, supplied="another")
    assert ensurer.kept[0].created
    assert done["one"].changed
    assert state(world) == before


@both
def test_existing_secret_is_verified_only(world, ensure, delivery):
    world.cluster.secret("one/login", {"username": b"them", "password": b"theirs"}, type="Opaque")
    before = state(world)
    ensurer, done = ensure(delivery, existing=True, namespaces=["one"])
    assert not done["one"].changed
    assert ensurer.fingerprints == {"one/login": "digest"}
    assert state(world) == before


@both
def test_another_writer_in_vault_at_the_same_time(world, ensure, delivery):
    world.vault.before_write = lambda: (
        "login" in world.vault.entries or world.vault.put("login", {"username": b"mlflow", "password": b"theirs"})
    )
    _unused, done = ensure(delivery)
    assert world.vault.values()["password"] == b"theirs"
    assert world.cluster.values("one/login") == world.cluster.values("two/login") == world.vault.values()
    assert not done["one"].generated


def test_another_writer_in_vault_all_the_time(world, ensure):
    world.vault.before_write = lambda: world.vault.put("login", {"theirs": b"x"})
    with pytest.raises(KubeError, match="is changed by another writer all the time"):
        ensure()
    assert SECRET.format("one") not in world.cluster.objects


@both
@pytest.mark.parametrize("owner", ["none", "Vault"])
def test_after_an_interruption_at_any_request_it_ends_well(world, ensure, monkeypatch, delivery, owner):
    class KilledError(BaseException):
        pass

    world.cluster.secret("two/login", {"username": b"x", "password": b"old", "theirs": b"kept"}, type="Opaque")
    if owner == "Vault":
        ensure("external_secrets" if delivery == "secrets" else "secrets")
    begin, entries, request = copy.deepcopy(world.cluster.objects), dict(world.vault.entries), Api.request
    for left in range(60):
        world.cluster.objects.clear()
        world.cluster.objects.update(copy.deepcopy(begin))
        world.vault.entries = dict(entries)
        count = itertools.count()

        def dying(self: Any, *args: Any, _count: Any = count, _left: int = left, **kwargs: Any) -> Any:
            if next(_count) == _left:
                raise KilledError
            return request(self, *args, **kwargs)

        monkeypatch.setattr(Api, "request", dying)
        try:
            ensure(delivery)
            ended = True
        except KilledError:
            ended = False
        monkeypatch.setattr(Api, "request", request)
        ensure(delivery)
        assert world.cluster.values("one/login")["password"] == world.vault.values()["password"] == b"old"
        assert world.cluster.values("two/login") == {"username": b"mlflow", "password": b"old", "theirs": b"kept"}
        assert not any(each.changed for each in ensure(delivery)[1].values()), left
        if ended:
            return
    raise AssertionError("it took more requests than expected")


# --- ExternalSecrets --------------------------------------------------------------------------------------------------


def test_what_is_made_names_the_store_and_the_entry(world, ensure):
    ensure("external_secrets", type="x/y", labels={"team": "ml"})
    spec = world.external("one")["spec"]
    assert spec["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}
    assert {each["remoteRef"]["key"] for each in spec["data"]} == {"mlflow/login"}
    assert spec["target"]["template"] == {"type": "x/y", "metadata": {"labels": {"team": "ml"}}}


def test_keys_without_an_owner_are_in_vault_before_the_operator_writes(world, ensure):
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old", "theirs": b"kept"}, type="Opaque")
    world.cluster.secret("two/login", {"password": b"old", "also theirs": b"too"}, type="Opaque")
    ensure("external_secrets")
    assert world.cluster.values("one/login")["theirs"] == world.vault.values()["theirs"] == b"kept"
    assert world.cluster.values("two/login")["also theirs"] == world.vault.values()["also theirs"] == b"too"
    assert "also theirs" not in world.cluster.values("one/login")


def test_keys_that_differ_from_namespace_to_namespace_stop_before_anything_is_written(world, ensure):
    """One entry can't hold both, and the operator would replace one by the other."""
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old", "theirs": b"a value"}, type="Opaque")
    world.cluster.secret("two/login", {"username": b"mlflow", "password": b"old", "theirs": b"another"}, type="Opaque")
    before = state(world)
    for check in (True, False):
        with pytest.raises(KubeError, match="has different values in its key theirs from namespace to") as error:
            ensure("external_secrets", check=check)
        assert "a value" not in str(error.value)
        assert state(world) == before
    ensure("secrets")
    assert world.cluster.values("two/login")["theirs"] == b"another", "where we deliver, each keeps its own"


def test_a_key_beside_ours_that_was_changed_in_vault_is_delivered_with_ours(world, ensure):
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old", "theirs": b"old"}, type="Opaque")
    ensure("external_secrets")
    world.vault.put("login", {"username": b"mlflow", "password": b"new", "theirs": b"new"})
    _unused, done = ensure("external_secrets")
    assert done["one"].updated == ["password"]
    assert world.cluster.values("one/login") == world.vault.values()


def test_a_label_is_brought_in_line(world, ensure):
    ensure("external_secrets")
    _unused, done = ensure("external_secrets", labels={"team": "ml"})
    assert done["one"].relabelled
    assert world.cluster.objects[SECRET.format("one")]["metadata"]["labels"] == {"team": "ml", MANAGED: "true"}
    assert world.external("one")["metadata"]["labels"] == {"team": "ml"}
    assert not any(each.changed for each in ensure("external_secrets", labels={"team": "ml"})[1].values())


def test_one_that_another_writer_changed_is_brought_in_line(world, ensure):
    ensure("external_secrets")
    world.external("one")["spec"]["refreshInterval"] = "1s"
    before = state(world)
    assert ensure("external_secrets", check=True)[1]["one"].converted == ["an ExternalSecret"]
    assert state(world) == before
    _unused, done = ensure("external_secrets")
    assert (done["one"].converted, done["two"].converted) == (["an ExternalSecret"], [])
    assert world.external("one")["spec"]["refreshInterval"] == "1h0m0s"


def test_an_operator_that_sleeps(world, ensure):
    world.down = True
    with pytest.raises(KubeError, match="no operator has processed it"):
        ensure("external_secrets")
    password = world.vault.values()["password"]
    world.down = False
    ensure("external_secrets")
    assert world.cluster.values("two/login")["password"] == password


def test_a_store_of_another_vault(world, ensure):
    other = Vault()
    other.put("login", {"username": b"mlflow", "password": b"another Vault's"})
    world.cluster.secret("one/login", {"username": b"mlflow", "password": b"old"}, type="Opaque")
    ours, world.vault = world.vault, other
    api = Api(Settings(server=world.cluster.url, source="the tests"))
    external = ExternalStore(
        KubernetesStore(api, **ticking()), ExternalSecrets(api, **ticking()), ours, {"name": "x", "kind": "SecretStore"}
    )
    ours.put("login", {"username": b"mlflow", "password": b"old"})
    found = external.read("one", "login")
    with pytest.raises(KubeError, match="is it the same Vault"):
        external.update(found, {}, {})


# --- moves ------------------------------------------------------------------------------------------------------------


def sealed(world: World, *namespaces: str) -> None:
    """Make SealedSecrets and Secrets that belong to them; no controller looks after them."""
    for namespace in namespaces:
        world.cluster.store(SEALED.format(namespace), {"metadata": {"generation": 1}, "spec": {}})
        owners = [{"kind": "SealedSecret", "name": "login", "uid": "x"}]
        data = {"username": b"mlflow", "password": b"old", "theirs": b"kept"}
        world.cluster.secret(f"{namespace}/login", data, metadata={"ownerReferences": owners}, type="Opaque")


@pytest.fixture
def collected(world):
    """The garbage collector, which lets go of the Secret of a SealedSecret that was deleted."""

    def look(method: str, path: str) -> None:
        for namespace in ("one", "two"):
            secret = world.cluster.objects.get(SECRET.format(namespace))
            if secret and SEALED.format(namespace) not in world.cluster.objects:
                secret["metadata"].pop("ownerReferences", None)

    world.cluster.before = look


@both
def test_from_sealed_secrets(world, ensure, collected, delivery):
    sealed(world, "one", "two")
    _unused, done = ensure(delivery, check=True)
    assert done["one"].converted[0] == "released from its SealedSecret"
    assert SEALED.format("one") in world.cluster.objects
    ensure(delivery)
    data = {"username": b"mlflow", "password": b"old", "theirs": b"kept"}
    assert world.cluster.values("one/login") == world.cluster.values("two/login") == data
    assert SEALED.format("one") not in world.cluster.objects
    assert not any(each.changed for each in ensure(delivery)[1].values())


@both
def test_one_is_left_to_cert_manager_and_taken_back(world, ensure, delivery):
    """The entry stays, and counts again afterwards."""
    left = {"common_name": "", "hosts": [], "days": 90, "authority": "", "ca": False, "client": False, "issuer": "ours"}
    left = {"keys": {}, "type": "kubernetes.io/tls", "certificate": left}
    ensure(delivery)
    entries, values = copy.deepcopy(world.vault.entries), world.cluster.values("one/login")
    released = ["released from its ExternalSecret"] if delivery == "external_secrets" else []
    expected = [*released, "to be issued again"]
    assert ensure(delivery, check=True, **left)[1]["one"].converted == expected
    assert ensure(delivery, **left)[1]["two"].converted == expected
    assert not any("externalsecrets" in each for each in world.cluster.objects)
    assert world.vault.entries == entries
    assert world.cluster.values("one/login") == values

    for namespace in ("one", "two"):
        world.cluster.store(f"/apis/cert-manager.io/v1/namespaces/{namespace}/certificates/login", {"spec": {}})
        made = {"metadata": {"annotations": {"cert-manager.io/certificate-name": "login"}}, "type": "Opaque"}
        world.cluster.secret(f"{namespace}/login", {**values, "password": b"its own"}, **made)
    ensure(delivery)
    assert not any("certificates" in each for each in world.cluster.objects)
    assert world.cluster.values("one/login") == world.cluster.values("two/login") == values
    assert not any(each.changed for each in ensure(delivery)[1].values())


@pytest.mark.parametrize("to", ["secrets", "kubernetes"])
@pytest.mark.parametrize("more", [{}, {"labels": {"team": "ml"}}, {"supplied": "another"}])
def test_delivery_is_taken_back(world, ensure, to, more):
    ensure("external_secrets")
    expected = {**world.vault.values(), **({"password": b"another"} if "supplied" in more else {})}
    _unused, done = ensure(to, **more)
    assert all(each.changed for each in done.values())
    assert (world.external("one"), world.external("two")) == (None, None)
    assert world.cluster.values("one/login") == world.cluster.values("two/login") == expected
    labels = world.cluster.objects[SECRET.format("one")]["metadata"]["labels"]
    assert labels == more.get("labels", {})
    assert not any(each.changed for each in ensure(to, **more)[1].values())


@both
def test_an_immutable_secret_stops_before_vault_is_written(world, ensure, delivery):
    data = {"username": b"mlflow", "password": b"old"}
    world.cluster.secret("one/login", data, type="Opaque")
    world.cluster.secret("two/login", data, type="Opaque", immutable=True)
    before = state(world)
    with pytest.raises(KubeError, match="Secret two/login is immutable"):
        ensure(delivery, supplied="another")
    assert state(world) == before


@both
def test_a_secret_that_only_its_sealed_secret_knows_is_waited_for(world, ensure, collected, delivery):
    sealed(world, "one")
    condition = {"type": "Synced", "status": "True"}
    world.cluster.objects[SEALED.format("one")]["status"] = {"observedGeneration": 1, "conditions": [condition]}
    secret = world.cluster.objects.pop(SECRET.format("one"))
    looks = itertools.count()

    def back(method: str, path: str) -> None:
        if path == SECRET.format("one") and next(looks) == 3:
            world.cluster.store(path, secret)

    world.cluster.before = back
    [outcome] = ensure(delivery, namespaces=["one"], check=True)[1].values()
    assert outcome.created
    assert world.vault.writes == 0
    looks = itertools.count()
    world.cluster.objects.pop(SECRET.format("one"), None)
    where = store(world, delivery)
    where.central("login", ["password"])
    assert where.recoverable("one", "login")
    assert where.recover("one", "login").data["password"] == b"old"


def test_the_operators_store_must_be_named(cluster, run):
    cluster.namespace("one")
    result = run(
        "credentials",
        secrets=[{"name": "login", "namespaces": ["one"], "keys": {"password": {"generate": "password"}}}],
        backend="vault",
        delivery="external_secrets",
        vault={"url": "http://127.0.0.1:9", "token": {"value": "token"}},
    )
    assert result["msg"] == "vault_delivery is external_secrets, so vault_secret_store must name the operator's store"
    assert cluster.requests == []
