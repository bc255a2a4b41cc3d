# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of ExternalSecrets; molecule/vault/tests has those against the real definitions in a cluster."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.client import Api, KubeError, Settings
from ansible_collections.mlops.mlflow.plugins.module_utils.vault.external_secret import (
    API_VERSION,
    ExternalSecrets,
    manifest,
    readiness,
)

PATH = f"/apis/{API_VERSION}/namespaces/one/externalsecrets/login"
READY = {"type": "Ready", "status": "True", "reason": "SecretSynced", "message": "secret synced"}
REFUSED = {"type": "Ready", "status": "False", "reason": "SecretSyncedError", "message": "could not get\nsecret data."}


@pytest.fixture
def secrets(cluster):
    """A client whose time passes at once."""
    time = iter(range(1000))
    api = Api(Settings(server=cluster.url, source="the tests"))
    return ExternalSecrets(api, clock=lambda: float(next(time)), sleep=lambda _seconds: None)


def wanted(**more):
    given = {"store": {"name": "vault"}, "remote_key": "mlflow/login", "labels": {"team": "ml"}, **more}
    return manifest("one", "login", ["username", "password"], **given)


def test_manifest_names_each_key_and_lets_values_pass():
    spec = wanted()["spec"]
    assert spec["secretStoreRef"] == {"name": "vault", "kind": "SecretStore"}
    assert spec["data"] == [
        {"secretKey": key, "remoteRef": {"key": "mlflow/login", "property": key}} for key in ("password", "username")
    ]
    assert spec["target"]["creationPolicy"] == "Orphan"
    assert spec["target"]["deletionPolicy"] == "Retain"
    assert spec["target"]["template"] == {"type": "Opaque", "metadata": {"labels": {"team": "ml"}}}


def test_manifest_of_a_cluster_store_and_a_type():
    made = wanted(store={"name": "v", "kind": "ClusterSecretStore"}, secret_type="x/y", refresh_interval="5m0s")
    assert made["spec"]["secretStoreRef"]["kind"] == "ClusterSecretStore"
    assert made["spec"]["target"]["template"]["type"] == "x/y"
    assert made["spec"]["refreshInterval"] == "5m0s"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, (False, "")),
        ({"conditions": [READY], "syncedResourceVersion": "2-abc"}, (True, "")),
        ({"conditions": [READY], "syncedResourceVersion": "1-abc"}, (False, "")),
        ({"conditions": [READY], "syncedResourceVersion": "22-abc"}, (False, "")),
        ({"conditions": [READY]}, (False, "")),
        ({"conditions": [REFUSED]}, (False, "SecretSyncedError: could not get secret data")),
        ({"conditions": [{"type": "Deleted", "status": "True"}]}, (False, "")),
    ],
)
def test_readiness(status, expected):
    assert readiness({"metadata": {"generation": 2}, "status": status}) == expected


def test_apply_says_whether_it_changed_something(cluster, secrets):
    assert secrets.apply(wanted()) is True
    assert cluster.requests[-1] == f"PATCH {PATH}?fieldManager=mlops.mlflow&force=true"
    assert secrets.apply(wanted()) is False
    assert secrets.apply(wanted(refresh_interval="5m0s"), dry_run=True) is True
    assert cluster.requests[-1].endswith("&dryRun=All")


def test_apply_is_refused(cluster, secrets):
    cluster.answers[f"PATCH {PATH}"] = cluster.status(422, "Invalid", "spec.secretStoreRef is wrong")
    with pytest.raises(KubeError) as error:
        secrets.apply(wanted())
    assert str(error.value) == (
        "ExternalSecret one/login cannot be written, the API server answered with 422: spec.secretStoreRef is wrong"
    )


def test_a_cluster_without_the_operators_definitions(cluster, secrets):
    cluster.answers[f"GET /apis/{API_VERSION}"] = cluster.status(404, "NotFound", "")
    assert secrets.served() is False
    with pytest.raises(KubeError, match=f"vault_delivery is external_secrets, and the cluster serves no {API_VERSION}"):
        secrets.verify()
    assert secrets.find("one", "login") is None
    assert secrets.release("one", "login") is False


def test_wait_until_it_is_ready_and_the_secret_is_as_meant(cluster, secrets):
    thing = {**wanted(), "status": {"conditions": [READY], "syncedResourceVersion": "1-x"}}
    thing["metadata"]["generation"] = 1
    cluster.store(PATH, thing)
    looked = iter([False, False, True])
    secrets.wait_ready("one", "login", timeout=10, satisfied=lambda: next(looked))
    assert cluster.requests == [f"GET {PATH}"] * 3


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, "no operator has processed it, is the External Secrets operator running?"),
        ({"conditions": [REFUSED]}, "SecretSyncedError: could not get secret data"),
        (
            {"conditions": [READY], "syncedResourceVersion": "1-x"},
            "it is Ready, but the Secret has not the values that are in Vault: is it the same Vault?",
        ),
        (None, "it is gone"),
    ],
)
def test_what_is_waited_for_does_not_come(cluster, secrets, status, why):
    if status is not None:
        thing = {**wanted(), "status": status}
        thing["metadata"]["generation"] = 1
        cluster.store(PATH, thing)
    with pytest.raises(KubeError) as error:
        secrets.wait_ready("one", "login", timeout=5, satisfied=lambda: False)
    assert str(error.value) == f"ExternalSecret one/login has not made its Secret within 5 s: {why}"


def test_release(cluster, secrets):
    cluster.store(PATH, wanted())
    assert secrets.release("one", "login") is True
    assert PATH not in cluster.objects
    assert cluster.requests[:2] == [f"GET {PATH}", f"DELETE {PATH}"]


def test_release_that_is_not_granted(cluster, secrets):
    cluster.store(PATH, wanted())
    cluster.answers[f"DELETE {PATH}"] = (200, {})
    with pytest.raises(
        KubeError, match="ExternalSecret one/login has been on its way out for 5 s: the External Secrets"
    ):
        secrets.release("one", "login", timeout=5)
