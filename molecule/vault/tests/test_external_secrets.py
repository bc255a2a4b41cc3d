"""Delivery with ExternalSecrets: the operator's own CRDs, and a stand-in for the operator."""

import base64
import json

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import KubeError, connect
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import ExternalSecrets, manifest

from tests.lib import standin
from tests.lib.vaulted import ONE, TWO

STORE = {"name": "vault", "kind": "ClusterSecretStore"}
DELIVERY = {"delivery": "external_secrets", "secret_store": STORE}


@pytest.fixture
def secrets(stack, external_secrets_crd, namespaces):
    """The module's client on the cluster."""
    api = connect({"kubeconfig": str(stack.kubeconfig)})
    made = ExternalSecrets(api)
    yield made
    for namespace in (ONE, TWO):
        for kind in ("externalsecrets", "secrets"):
            names = stack.kubectl("-n", namespace, "get", kind, "-o", "name", check=False).split()
            for name in names:
                stack.kubectl("-n", namespace, "patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
            if names:
                stack.kubectl("-n", namespace, "delete", *names, "--ignore-not-found")


@pytest.fixture
def operator(stack, vault, secrets):
    with standin.Operator(stack, vault, [ONE, TWO]) as running:
        yield running


def wanted(**more):
    given = {"store": STORE, "remote_key": "mlflow/login", "labels": {"team": "ml"}, **more}
    return manifest(ONE, "login", ["username", "password"], **given)


def test_missing_crd_is_reported(login, stack):
    """Must be the first test of this file: later ones install the CRD."""
    assert "externalsecrets" not in stack.kubectl("get", "crd", "-o", "name")
    message = login.fails(**DELIVERY)
    assert "the cluster serves no external-secrets.io/v1" in message


# --- the client -------------------------------------------------------------------------------------------------------


def test_crd_accepts_the_manifest_with_strict_validation(stack, secrets):
    """No field is unknown, and none has a wrong type."""
    text = json.dumps(wanted())
    stack.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
    wrong = wanted()
    wrong["spec"]["target"]["nothing"] = "like it"
    with pytest.raises(RuntimeError):
        stack.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=json.dumps(wrong)
        )


def test_a_second_apply_changes_nothing(secrets):
    secrets.verify()
    assert secrets.apply(wanted(), dry_run=True) is True
    assert secrets.find(ONE, "login") is None
    assert secrets.apply(wanted()) is True
    version = secrets.find(ONE, "login")["metadata"]["resourceVersion"]
    assert secrets.apply(wanted()) is False
    assert secrets.find(ONE, "login")["metadata"]["resourceVersion"] == version
    secrets.force_sync(ONE, "login")
    assert secrets.apply(wanted()) is False, "what forces a synchronisation is no difference"
    assert secrets.find(ONE, "login")["metadata"]["resourceVersion"] != version


def test_missing_operator_is_reported(secrets):
    secrets.apply(wanted())
    with pytest.raises(KubeError, match="no operator has processed it, is the External Secrets operator running"):
        secrets.wait_ready(ONE, "login", timeout=1)


def test_an_entry_that_lacks_a_key(secrets, operator, vault):
    vault.put("login", {"username": "mlflow"})
    secrets.apply(wanted())
    with pytest.raises(KubeError, match="SecretSyncedError: could not get secret data from provider"):
        secrets.wait_ready(ONE, "login", timeout=4)


def test_release_keeps_an_owned_secret(stack, secrets):
    """An ExternalSecret with creationPolicy Owner owns its Secret and would delete it."""
    owner = wanted()
    owner["spec"]["target"] |= {"creationPolicy": "Owner", "deletionPolicy": "Delete"}
    secrets.apply(owner)
    found = secrets.find(ONE, "login")
    reference = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "name": "login",
        "uid": found["metadata"]["uid"],
    }
    metadata = {"name": "login", "ownerReferences": [{**reference, "controller": True, "blockOwnerDeletion": True}]}
    data = {"password": base64.b64encode(b"kept").decode()}
    stack.core.create_namespaced_secret(ONE, {"metadata": metadata, "data": data})
    # The garbage collector discovers a new CRD within half a minute.
    assert secrets.release(ONE, "login", timeout=90) is True
    assert secrets.release(ONE, "login", timeout=90) is False
    kept = stack.core.read_namespaced_secret("login", ONE)
    assert kept.data == data
    assert not kept.metadata.owner_references


# --- the module -------------------------------------------------------------------------------------------------------


def test_the_operator_delivers_what_is_in_vault(login, operator):
    there, versions = login.values(), login.versions()["login"]["current_version"]
    changed, output = login.changed(**DELIVERY)
    assert changed, output
    assert login.values(ONE) == login.values(TWO) == there
    assert login.versions()["login"]["current_version"] == versions
    labels = login.stack.core.read_namespaced_secret("login", ONE).metadata.labels
    assert labels["team"] == "ml"
    assert labels[standin.MANAGED] == "true"
    before = login.everything()
    changed, output = login.changed(**DELIVERY)
    assert not changed, output
    assert login.everything() == before
    for secret in there.values():
        assert secret == "mlflow" or secret not in output


def test_a_change_in_vault_is_delivered_at_the_next_run(login, operator):
    login.changed(**DELIVERY)
    login.vault.put("login", {"username": "mlflow", "password": "changed in Vault"})
    changed, output = login.changed(**DELIVERY)
    assert changed, output
    assert login.values(ONE)["password"] == login.values(TWO)["password"] == "changed in Vault"
    assert not login.changed(**DELIVERY)[0]


def test_a_secret_that_is_gone_comes_back(login, operator):
    login.changed(**DELIVERY)
    there = login.values(TWO)
    login.stack.kubectl("-n", ONE, "delete", "secret", "login")
    assert login.changed(**DELIVERY)[0]
    assert login.values(ONE) == there


def test_unknown_keys_are_kept(login, operator):
    """The operator replaces a Secret's keys, so existing keys are written to Vault first."""
    encoded = base64.b64encode(b"by hand").decode()
    login.stack.core.patch_namespaced_secret("login", ONE, {"data": {"theirs": encoded}})
    login.changed(**DELIVERY)
    assert login.values(ONE)["theirs"] == "by hand"


def test_a_new_credential_and_a_new_cluster(login, operator):
    login.clear()
    assert login.changed(**DELIVERY)[0]
    values, version = login.kept()
    assert version == 1
    assert login.values(ONE) == login.values(TWO) == values


@pytest.mark.parametrize("backend", ["vault", "kubernetes"])
def test_switch_back_to_plain_secrets(login, operator, secrets, backend):
    login.changed(**DELIVERY)
    there = login.values()
    assert login.changed(backend=backend)[0]
    assert secrets.find(ONE, "login") is None
    assert secrets.find(TWO, "login") is None
    assert login.values(ONE) == login.values(TWO) == there
    assert not login.changed(backend=backend)[0]


def test_check_mode_creates_no_externalsecret(login, operator, secrets):
    changed, output = login.changed("--check", **DELIVERY)
    assert changed, output
    assert secrets.find(ONE, "login") is None


def test_timeout_without_an_operator(login, secrets):
    """The Secrets are unchanged, and the message names the missing operator."""
    before = login.values(ONE), login.values(TWO), login.kept()
    login.vault.put("login", {**before[2][0], "password": "changed in Vault"})
    done = login.ensure(**DELIVERY)
    assert done.code != 0
    assert "Traceback" not in done.output
    assert "no operator has processed it" in " ".join(done.output.split())
    assert (login.values(ONE), login.values(TWO)) == before[:2]
