# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module leftovers."""

from __future__ import annotations

from typing import Any

import pytest

MANAGED = {"app.kubernetes.io/managed-by": "mlops.mlflow"}
STACK = ["mlflow", "postgres"]
SIZE = {"resources": {"requests": {"storage": "1536Mi"}}}
NAMED = {
    "stack": STACK,
    "objects": [
        {"kind": "Namespace", "name": "mlflow"},
        {"kind": "Namespace", "name": "postgres"},
        {"kind": "PersistentVolumeClaim", "namespace": "postgres", "name": "data"},
        {"kind": "Job", "namespace": "mlflow", "name": "migrate-0badcafe"},
    ],
    "secrets": ["mlflow/db", "team/db"],
}


class Cluster:
    """A cluster with a stack.

    Args:
        fake: the API server.
    """

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        fake.answers["GET /apis"] = (200, {"groups": [{"name": "bitnami.com"}]})
        for each in STACK:
            self.namespace(each, *STACK)
        fake.namespace("default")
        self.namespace("team")  # for the Secret of a program
        self.volume("postgres", "data")
        self.job("mlflow", "migrate-12345678", labels={**MANAGED, "mlops.mlflow/job": "migrate"})
        self.secret("mlflow", "db")
        self.secret("team", "db")

    def namespace(self, name: str, *stack: str) -> None:
        """Make a namespace of the collection, as one of a stack."""
        noted = {"annotations": {"mlops.mlflow/stack": " ".join(stack)}} if stack else {}
        self.fake.store(f"/api/v1/namespaces/{name}", {"metadata": {"labels": dict(MANAGED), **noted}})

    def _store(self, group: str, namespace: str, kind: str, name: str, thing: dict[str, Any], **metadata: Any) -> None:
        metadata = {"labels": dict(MANAGED), **metadata}
        self.fake.store(f"{group}/namespaces/{namespace}/{kind}/{name}", {"metadata": metadata, **thing})

    def volume(self, namespace: str, name: str, **metadata: Any) -> None:
        """Make a volume claim."""
        self._store("/api/v1", namespace, "persistentvolumeclaims", name, {"spec": SIZE}, **metadata)

    def pod(self, namespace: str, name: str, claim: str = "", **metadata: Any) -> None:
        """Make a pod, perhaps with a volume."""
        volumes = [{"persistentVolumeClaim": {"claimName": claim}}] if claim else []
        self._store("/api/v1", namespace, "pods", name, {"spec": {"volumes": volumes}}, **metadata)

    def job(self, namespace: str, name: str, ended: str = "True", **metadata: Any) -> None:
        """Make a Job."""
        status = {
            "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": ended}]
        }
        self._store("/apis/batch/v1", namespace, "jobs", name, {"status": status}, **metadata)

    def secret(
        self,
        namespace: str,
        name: str,
        *writers: str,
        instance: str = "mlflow",
        group: str = "/api/v1",
        kind: str = "secrets",
        labels: dict[str, str] | None = None,
        **metadata: Any,
    ) -> None:
        """Make a Secret or SealedSecret, with its field managers."""
        content = "f:spec" if kind == "sealedsecrets" else "f:data"
        fields = [{"manager": each, "fieldsV1": {content: {}}} for each in writers or ("mlops.mlflow",)]
        fields.append({"manager": "labeller", "fieldsV1": {"f:metadata": {}}})
        marks = {**MANAGED, "mlops.mlflow/instance": instance} if labels is None else labels
        self._store(group, namespace, kind, name, {}, labels=marks, managedFields=fields, **metadata)


@pytest.fixture
def stack(cluster) -> Cluster:
    """Give a cluster with a stack that has left nothing."""
    return Cluster(cluster)


@pytest.fixture
def look(run, stack):
    """Give a function that looks for what is left, as names with what they hold, and what is kept."""

    def call(**options: Any) -> tuple[dict[str, str], list[str]]:
        result = run("leftovers", **NAMED | options)
        assert not result["changed"]
        assert stack.fake.writes() == []
        return {each["name"]: each["holds"] for each in result["found"]}, result["kept"]

    return call


def test_a_stack_that_is_as_declared_has_left_nothing(look):
    assert look() == ({}, [])


def test_what_the_inventory_does_not_name_is_left(stack, look):
    stack.volume("postgres", "data-1")
    stack.job("mlflow", "of-a-restore")
    stack.job("postgres", "migrate-1", labels={**MANAGED, "mlops.mlflow/job": "migrate"})
    stack.secret("mlflow", "former-login")
    stack.secret("team", "former-database")
    stack.secret("mlflow", "sealed", group="/apis/bitnami.com/v1alpha1", kind="sealedsecrets")
    stack.secret("mlflow", "sealed", ownerReferences=[{"kind": "SealedSecret"}])
    assert look() == (
        {
            "persistentvolumeclaim/postgres/data-1": "1.5 GiB",
            "job/mlflow/of-a-restore": "",
            "job/postgres/migrate-1": "",
            "secret/mlflow/former-login": "",
            "secret/team/former-database": "",
            "sealedsecret/mlflow/sealed": "",
        },
        [],
    )


def test_what_is_used_or_goes_by_itself_is_not_left(stack, look):
    owner = {"ownerReferences": [{"kind": "Pod"}]}
    stack.volume("postgres", "data-1")
    stack.pod("postgres", "postgres-0", "data-1")
    stack.volume("postgres", "of-a-pod", **owner)
    stack.job("mlflow", "of-a-cronjob", **owner)
    stack.job("mlflow", "runs", ended="False")
    assert look() == ({}, ["persistentvolumeclaim/postgres/data-1: a pod uses it"])


def test_secrets_of_others_are_not_left(stack, look):
    stack.secret("team", "of-another-stack", instance="mlflow-2")
    stack.secret("mlflow", "of-a-user", labels={})
    stack.secret("mlflow", "made-by-a-module", labels=MANAGED)
    token = {**MANAGED, "mlops.mlflow/instance": "mlflow", "mlops.mlflow/access": "token"}
    stack.secret("mlflow", "token", labels=token)
    stack.secret("mlflow", "supplied", "kubectl-create", "mlops.mlflow")
    assert look() == ({}, ["secret/mlflow/supplied: something else has written it too"])


def test_a_namespace_of_a_former_name_is_left_with_all_that_it_holds(stack, look):
    stack.namespace("postgres-old", "mlflow", "postgres-old")
    stack.volume("postgres-old", "data")
    stack.secret("postgres-old", "superuser", labels={})
    stack.secret("postgres-old", "pull", "kubectl-create", labels={})
    stack.pod("postgres-old", "postgres-0", "data")
    stack.job("postgres-old", "provision")
    stack.secret("team", "of-that-time", instance="postgres-old")
    found, kept = look(pull_secrets=["pull"])
    assert found == {
        "namespace/postgres-old": "volume data of 1.5 GiB, 2 Secrets, 1 pods that run",
        "secret/team/of-that-time": "",
    }
    assert kept == []
    # A Secret that nobody asked to go along.
    found, kept = look()
    assert list(found) == ["secret/team/of-that-time"]
    assert kept == ["namespace/postgres-old: it holds what this collection did not make: Secret pull"]


@pytest.mark.parametrize("thing", ["volume", "pod"])
def test_a_namespace_that_holds_something_of_others_stays(stack, look, thing):
    stack.namespace("postgres-old", "mlflow", "postgres-old")
    getattr(stack, thing)("postgres-old", "own", labels={})
    found, kept = look()
    assert found == {}
    assert kept == [f"namespace/postgres-old: it holds what this collection did not make: {thing} own"]


def test_namespaces_of_other_stacks_are_not_left(stack, look):
    stack.namespace("keycloak", "keycloak", "mlflow-2")
    stack.namespace("mlflow-2", "keycloak", "mlflow-2")
    stack.namespace("of-a-version-before")
    found, kept = look()
    assert found == {}
    assert kept == ["namespace/of-a-version-before: no stack is recorded on it, so whose it is cannot be told"]


@pytest.mark.parametrize(
    ("options", "record"),
    [
        ({"used": ["minio"]}, []),
        ({"secrets": [*NAMED["secrets"], "minio/bucket"]}, []),
        ({"objects": [*NAMED["objects"], {"kind": "Role", "namespace": "minio", "name": "backup"}]}, []),
        ({}, ["minio", "mlflow-2"]),
    ],
    ids=["host", "secret", "object", "other-stack"],
)
def test_a_namespace_that_is_still_named_stays(stack, look, options, record):
    stack.namespace("minio", "minio", "mlflow", "postgres")
    if record:
        stack.namespace("mlflow-2", *record)
    assert look(**options) == ({}, ["namespace/minio: the inventory or another stack still names it"])


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (["keycloak", "mlflow"], "keycloak, mlflow"),
        ([], "no stack"),
    ],
)
def test_an_inventory_that_is_not_what_was_deployed_is_refused(stack, run, record, words):
    stack.namespace("mlflow", *record)
    assert run("leftovers", **NAMED)["msg"] == (
        f"Namespace mlflow is recorded as one of {words}, and this inventory's are mlflow, postgres: run site.yml "
        "first, or look whether this is the right inventory"
    )


def test_a_stack_that_is_not_deployed_is_refused(cluster, run):
    assert "Namespace mlflow is recorded as one of no stack" in run("leftovers", **NAMED)["msg"]


def test_what_may_not_be_listed_is_not_taken_for_nothing(stack, run):
    stack.fake.answers["GET /api/v1/secrets"] = (403, {"kind": "Status", "message": "secrets is forbidden"})
    assert "secrets is forbidden" in run("leftovers", **NAMED)["msg"]
