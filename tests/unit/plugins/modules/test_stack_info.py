# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module stack_info, and of the playbook that shows what it reads.

The objects of the stack are those that the roles' templates make; what a cluster adds to them is made here.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.action import stack_info
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.certificates import (
    Certificate,
    ensure_authority,
    issue,
)
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.portforward import Unreachable

from tests.lib import REPOSITORY, rendering
from tests.lib.options import BACKUP

NAMED = ["sealed_secrets", "postgres", "minio", "keycloak", "mlflow", "backup"]
PLACES = {each: each for each in NAMED} | {"sealed_secrets": "sealed-secrets", "backup": "mlflow-backup"}
OPTIONS = BACKUP | {
    "mlflow_image": "registry.example.com/mlops/mlflow:3.17.2-1a2b3c4d",
    "minio_image": "registry.example.com/mlops/minio:20260212-5e6f7a8b",
    "postgres_image": "registry.example.com/mlops/postgres:17.7-9c0d1e2f",
    "keycloak_image": "quay.io/keycloak/keycloak:26.7.1",
    "mlflow_replicas": 2,
}
PATHS = {
    "Deployment": "/apis/apps/v1",
    "StatefulSet": "/apis/apps/v1",
    "CronJob": "/apis/batch/v1",
    "Job": "/apis/batch/v1",
    "PersistentVolumeClaim": "/api/v1",
}
MANAGED = {"app.kubernetes.io/managed-by": "mlops.mlflow"}
INSTANCE = {**MANAGED, "mlops.mlflow/instance": "mlflow"}
NOW = datetime(2026, 12, 1, 13, 5, tzinfo=UTC)
METRICS = """# HELP mlflow_job_last_success_timestamp_seconds When a Job last ended well.
# TYPE mlflow_job_last_success_timestamp_seconds gauge
mlflow_job_last_success_timestamp_seconds{{job_name="drill"}} {drill}
mlflow_wal_archive_timestamp_seconds{{result="archived"}} {archived}
mlflow_wal_archive_timestamp_seconds{{result="failed"}} {failed}
mlflow_workers 2.0
"""


def ago(**time: float) -> str:
    """Give a time as the API server writes it."""
    return (NOW - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.cache
def rendered() -> str:
    """Give the objects of a stack with backups, as JSON."""
    found = []
    for name in NAMED:
        role = rendering.Role(name, beside=[each for each in NAMED if name == "backup" and each != name])
        found += [each for template in role.templates for each in role.render(template, OPTIONS)]
    return json.dumps([each for each in found if each["kind"] in PATHS])


class Stack:
    """A stack in a cluster in which all is well.

    Args:
        fake: the API server.
    """

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        fake.answers["GET /version"] = (200, {"gitVersion": "v1.34.10"})
        fake.answers["GET /apis"] = (200, {"groups": [{"name": "bitnami.com"}, {"name": "cert-manager.io"}]})
        fake.namespace("default")
        self.certificates: dict[str, bytes] = {}

    def deploy(self, *components: str) -> None:
        """Make the objects of components, as ready as they get."""
        places = {PLACES[each] for each in components}
        self.fake.namespace(*places)
        for thing in json.loads(rendered()):
            if thing["metadata"]["namespace"] in places:
                getattr(self, f"_{thing['kind'].lower()}")(thing)

    def path(self, kind: str, place: str) -> str:
        """Give the path of an object."""
        namespace, name = place.split("/")
        return f"{PATHS[kind]}/namespaces/{namespace}/{kind.lower()}s/{name}"

    def of(self, kind: str, place: str) -> dict[str, Any]:
        """Give an object."""
        thing: dict[str, Any] = self.fake.objects[self.path(kind, place)]
        return thing

    def _store(self, thing: dict[str, Any], **more: Any) -> None:
        place = f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"
        thing["metadata"]["creationTimestamp"] = ago(days=20)
        # A list does not say of which kind its objects are.
        stored = {key: value for key, value in thing.items() if key not in ("kind", "apiVersion")}
        self.fake.store(self.path(thing["kind"], place), {**stored, **more})

    def _deployment(self, thing: dict[str, Any]) -> None:
        wanted = thing["spec"].setdefault("replicas", 1)
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        self._store(thing, status=dict.fromkeys(counts, wanted))
        for number in range(wanted):
            self.pod(thing, number)

    _statefulset = _deployment

    def _cronjob(self, thing: dict[str, Any]) -> None:
        # The API server fills in what is not given.
        self._store(thing, status={})

    def _job(self, thing: dict[str, Any]) -> None:
        status = {"completionTime": ago(days=20), "conditions": [{"type": "Complete", "status": "True"}]}
        self._store(thing, status=status)

    def _persistentvolumeclaim(self, thing: dict[str, Any]) -> None:
        self._store(thing, status={"phase": "Bound"})

    def pod(self, owner: dict[str, Any], number: int = 0) -> None:
        """Make a ready pod of a workload."""
        name, namespace = f"{owner['metadata']['name']}-{number}", owner["metadata"]["namespace"]
        labels = owner["spec"]["template"]["metadata"]["labels"]
        state = {"name": owner["metadata"]["name"], "ready": True, "restartCount": 0, "state": {"running": {}}}
        status = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [state]}
        thing = {"metadata": {"labels": labels}, "spec": {"containers": []}, "status": status}
        self.fake.store(f"/api/v1/namespaces/{namespace}/pods/{name}", thing)

    def container(self, place: str) -> dict[str, Any]:
        """Give the status of a pod's container."""
        namespace, name = place.split("/")
        thing = self.fake.objects[f"/api/v1/namespaces/{namespace}/pods/{name}"]
        status: dict[str, Any] = thing["status"]["containerStatuses"][0]
        return status

    def job(self, place: str, *, failed: str = "", owner: str = "", **time: float) -> None:
        """Make a Job that ended, or one that runs where it is neither well nor failed."""
        end = ago(**time)
        condition = {"type": "Complete", "status": "True"}
        if failed:
            words = {"reason": "BackoffLimitExceeded", "message": failed, "lastTransitionTime": end}
            condition = {"type": "Failed", "status": "True", **words}
        status = {"conditions": [condition]} | ({} if failed else {"completionTime": end})
        owners = [{"kind": "CronJob", "name": owner}] if owner else []
        metadata = {"labels": dict(MANAGED), "ownerReferences": owners, "creationTimestamp": end}
        self.fake.store(self.path("Job", place), {"metadata": metadata, "spec": {}, "status": status})

    def certificate(self, place: str, days: int, left: int, **metadata: Any) -> None:
        """Make a Secret with a certificate of so many days, of which some are left."""
        begun = NOW - timedelta(days=days - left)
        authority = ensure_authority(Certificate("ca", days=9000, ca=True), begun, {}, rotate=False)
        made = issue(Certificate("mlflow", ("mlflow.example.com",), days), authority, begun)
        more = {"type": "kubernetes.io/tls", "metadata": {"labels": dict(INSTANCE), **metadata}}
        self.fake.secret(place, made, **more)

    def secret(self, place: str, labels: dict[str, str] | None = None, **metadata: Any) -> None:
        """Make a Secret with a value that nobody may see."""
        metadata = {"labels": {**INSTANCE, **(labels or {})}, "creationTimestamp": ago(days=20), **metadata}
        self.fake.secret(place, {"password": b"the-planted-password"}, metadata=metadata)

    def token(self, place: str, owner: str, days: float) -> None:
        """Make a Secret with the token of a program."""
        end = (NOW + timedelta(days=days)).isoformat()
        noted = {"mlops.mlflow/expires": end, "mlops.mlflow/access-of": owner, "mlops.mlflow/user": owner}
        self.secret(place, {"mlops.mlflow/access": "client"}, annotations=noted)

    def note(self, place: str, **data: str) -> None:
        """Make a ConfigMap in which a playbook wrote what it began."""
        namespace, name = place.split("/")
        self.fake.store(f"/api/v1/namespaces/{namespace}/configmaps/{name}", {"metadata": {}, "data": data})


@pytest.fixture
def bare(cluster) -> Stack:
    """Give a cluster without the stack."""
    return Stack(cluster)


@pytest.fixture
def stack(bare) -> Stack:
    """Give a stack in which all is well."""
    bare.deploy(*NAMED)
    bare.certificate("mlflow/mlflow-internal-tls", 90, 60)
    bare.certificate("keycloak/keycloak-tls", 90, 80)
    bare.secret("mlflow/mlflow-db-credentials")
    bare.token("pipelines/mlflow-credentials", "nightly", 75)
    bare.of("CronJob", "mlflow-backup/backup")["status"] = {
        "lastSuccessfulTime": ago(hours=10, minutes=51),
        "lastScheduleTime": ago(hours=11),
    }
    bare.of("CronJob", "mlflow-backup/restore-drill")["status"] = {"lastSuccessfulTime": ago(days=2, hours=7)}
    return bare


@pytest.fixture
def told(cluster, monkeypatch) -> Any:
    """Give a function that says what MLflow's pods tell. No port is forwarded by the API server of the tests."""

    def tell(text: str = "") -> None:
        def forwarded(_api: Any, namespace: str, pod: str, port: int, _timeout: float) -> Any:
            assert (namespace, port) == ("mlflow", 5001)
            assert (
                stack_info.condition(cluster.objects[f"/api/v1/namespaces/mlflow/pods/{pod}"], "Ready")["status"]
                == "True"
            )
            if not text:
                raise Unreachable("the pod is away")
            return Answer(text)

        monkeypatch.setattr(stack_info, "open_stream", forwarded)

    monkeypatch.setattr(stack_info, "now", lambda: NOW)
    tell(METRICS.format(drill=1.0, archived=2.0, failed=1.0))
    return tell


class Answer:
    """A stream on which a pod answers with its metrics."""

    def __init__(self, text: str) -> None:
        body = text.encode()
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def sendall(self, data: bytes) -> None:
        """Take the request."""
        assert data.startswith(b"GET /metrics HTTP/1.1")

    def makefile(self, *_mode: Any) -> Any:
        """Give what is read."""
        return io.BytesIO(self.answer)

    def close(self) -> None:
        """End."""


@pytest.fixture
def look(run, told):
    """Give a function that reads the stack."""

    def call(check: bool = False, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = run("stack_info", check=check, **{"components": PLACES, **options})
        assert not result["changed"]
        assert "the-planted-password" not in result["_output"]
        assert "PRIVATE KEY" not in result["_output"]
        return result

    return call


def texts(result: dict[str, Any]) -> list[str]:
    """Give what is pending, in words."""
    return [each["text"] for each in result["pending"]]


@pytest.mark.parametrize("check", [False, True])
def test_a_stack_in_which_all_is_well(stack, look, check):
    result = look(check)
    assert (result["state"], result["sentence"]) == ("ready", "All 6 components are ready")
    assert (result["pending"], result["failed_jobs"], result["unreadable"]) == ([], [], [])
    assert stack.fake.writes() == []
    assert len(stack.fake.requests) == 22


def test_the_page_of_a_stack_in_which_all_is_well(stack, look):
    page = look()["page"]
    assert page[0] == "All 6 components are ready."
    assert page[1] == f"Kubernetes v1.34.10, {NOW:%Y-%m-%d %H:%M} UTC"
    shown = [line.split() for line in page]
    assert ["mlflow", "mlflow", "2/2", "0", "mlflow:3.17.2-1a2b3c4d"] in shown
    assert ["postgres", "postgres", "1/1", "0", "postgres:17.7-9c0d1e2f"] in shown
    assert any(line.startswith("  last backup  ") and line.endswith("10 h 51 min ago") for line in page)
    assert any(line.startswith("  last drill   ") and line.endswith("2 d 7 h ago") for line in page)
    # The first one to end comes first.
    certificates = page[page.index("CERTIFICATES") + 1 :]
    assert [line.split()[0] for line in certificates[:2]] == ["mlflow/mlflow-internal-tls", "keycloak/keycloak-tls"]
    assert certificates[0].endswith(f"  {NOW + timedelta(days=60):%Y-%m-%d}, in 60 d")
    assert any(line.startswith("  pipelines/mlflow-credentials of nightly  ") for line in page)
    assert page[page.index("PENDING") + 1] == "  nothing"
    assert page[page.index("FAILED LAST") + 1] == "  nothing"
    assert max(map(len, page)) <= 100
    assert len(page) <= 40


def test_programs_get_the_same(stack, look):
    result = look()
    (mlflow,) = [each for each in result["components"] if each["name"] == "mlflow"]
    (workload,) = mlflow["workloads"]
    assert workload == {
        "kind": "Deployment",
        "name": "mlflow",
        "image": "registry.example.com/mlops/mlflow:3.17.2-1a2b3c4d",
        "version": "3.17.2-1a2b3c4d",
        "desired": 2,
        "ready": 2,
        "is_ready": True,
        "note": "2 of 2 pods ready",
        "restarts": 0,
        "last_restart": "",
        "problems": [],
    }
    assert result["backups"]["last_backup"] == ago(hours=10, minutes=51)
    assert result["backups"]["last_backup_age"] == 39060
    assert [(each["name"], each["suspended"]) for each in result["schedules"]] == [
        ("backup", False),
        ("restore-drill", False),
        ("mlflow-gc", True),
        ("mlflow-traces", True),
    ]
    (token,) = result["tokens"]
    assert (token["user"], token["days"]) == ("nightly", 75)
    assert json.loads(json.dumps(result["certificates"])) == result["certificates"]


def test_the_page_of_the_documentation(stack, look, sealing_secrets):
    stack.certificate("mlflow/mlflow-ca", 3650, 3300)
    for place, left in (("minio/minio-tls", 61), ("postgres/postgres-tls", 61), ("mlflow/mlflow-tls", 28)):
        stack.certificate(place, 90, left)
    crash(stack)
    stack.container("postgres/postgres-0").update(
        restartCount=1, lastState={"terminated": {"exitCode": 0, "finishedAt": ago(days=9)}}
    )
    metadata = sealing_secrets[0]["metadata"] | {"name": "sealed-secrets-keyx7k2p", "creationTimestamp": ago(hours=2)}
    path = f"/api/v1/namespaces/sealed-secrets/secrets/{metadata['name']}"
    stack.fake.store(path, sealing_secrets[0] | {"metadata": metadata})
    stack.of("CronJob", "mlflow/mlflow-gc")["spec"]["suspend"] = False
    stack.token("training/mlflow-credentials", "training", 6)
    stack.job(
        "mlflow/mlflow-gc-29410000", failed="Job has reached the specified backoff limit", owner="mlflow-gc", hours=9
    )
    text = (REPOSITORY / "docs" / "status.md").read_text()
    (shown,) = re.findall(r"<!-- the page of a test -->\n```text\n(.*?)\n```", text, re.S)
    page = "\n".join(look()["page"])
    assert page == shown


def test_nothing_is_deployed(bare, look):
    result = look()
    assert (result["state"], result["pending"]) == ("absent", [])
    assert result["page"][0] == "Nothing of this stack is deployed: run site.yml."
    assert len(result["page"]) == 2
    assert len(bare.fake.requests) == 2


def test_namespaces_alone_are_no_stack(bare, look):
    bare.fake.namespace(*PLACES.values())
    assert look()["page"][0] == "Nothing of this stack is deployed: run site.yml."


def test_a_stack_that_is_deployed_in_part(bare, look):
    bare.deploy("postgres", "minio")
    result = look()
    assert result["state"] == "partly"
    assert result["sentence"] == (
        "2 of 6 components are ready; sealed_secrets, keycloak, mlflow and backup are not deployed"
    )
    assert ["keycloak", "not", "deployed"] in [line.split() for line in result["page"]]


def test_another_stack_is_not_seen(stack, look):
    thing = json.loads(json.dumps(stack.of("Deployment", "mlflow/mlflow")))
    thing["metadata"]["namespace"] = "mlflow-2"
    stack.fake.namespace("mlflow-2")
    stack.fake.store("/apis/apps/v1/namespaces/mlflow-2/deployments/mlflow", thing)
    stack.job("mlflow-2/broken", failed="it failed", hours=1)
    stack.token("pipelines/other", "other", 1)
    stack.fake.objects["/api/v1/namespaces/pipelines/secrets/other"]["metadata"]["labels"]["mlops.mlflow/instance"] = (
        "mlflow-2"
    )
    result = look()
    assert (result["pending"], result["failed_jobs"]) == ([], [])
    assert [each["owner"] for each in result["tokens"]] == ["nightly"]


def crash(stack: Stack) -> None:
    """Have a pod of MLflow crash while another one is replaced."""
    stack.of("Deployment", "mlflow/mlflow")["status"] |= {
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
    }
    container = stack.container("mlflow/mlflow-0")
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": ago(minutes=3)}
    container |= {"restartCount": 4, "ready": False, "lastState": {"terminated": ended}}
    container["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod = stack.fake.objects["/api/v1/namespaces/mlflow/pods/mlflow-0"]
    pod["status"]["conditions"][0]["status"] = "False"


def test_a_rollout_with_a_pod_that_crashes(stack, look):
    crash(stack)
    result = look()
    assert result["sentence"] == "5 of 6 components are ready; mlflow is not ready"
    assert texts(result) == [
        "Deployment mlflow/mlflow: 1 of 2 pods replaced; pod mlflow-0: container mlflow keeps crashing, "
        "CrashLoopBackOff (OOMKilled, exit code 137, 4 restarts)"
    ]
    assert any(line.startswith("mlflow  ") and "  4, 3 min ago  " in line for line in result["page"])


def test_a_workload_without_pods_is_not_ready(stack, look):
    thing = stack.of("Deployment", "mlflow/mlflow")
    thing["spec"]["replicas"] = 0
    thing["status"] = {}
    assert texts(look()) == ["Deployment mlflow/mlflow: it has no pods, since it is scaled to 0"]


def test_the_last_job_of_its_kind_counts(stack, look):
    stack.job(
        "mlflow-backup/backup-29400000", failed="Job has reached the specified backoff limit", owner="backup", hours=3
    )
    stack.job("mlflow-backup/look-1a2b", hours=1)
    result = look()
    assert result["failed_jobs"] == [
        {
            "job": "mlflow-backup/backup-29400000",
            "of": "mlflow-backup/backup",
            "time": ago(hours=3),
            "reason": "BackoffLimitExceeded: Job has reached the specified backoff limit",
        }
    ]
    (line,) = [line for line in result["page"] if "backup-29400000" in line]
    assert line.startswith("  Job mlflow-backup/backup-29400000, ")
    assert line.endswith(", 3 h 0 min ago: BackoffLimitExceeded: Job has reached the specified backoff limit")
    # By hand, after it.
    stack.job("mlflow-backup/backup-manual-20261201120000", minutes=30)
    result = look()
    assert result["failed_jobs"] == []
    assert result["backups"]["last_backup"] == ago(minutes=30)


def test_a_migration_that_runs_may_hold_calls(stack, look):
    path = stack.path("Job", "mlflow/mlflow-migrate-1a2b3c4d")
    labels = {**MANAGED, "mlops.mlflow/job": "mlflow-migrate"}
    metadata = {"labels": labels, "creationTimestamp": ago(minutes=4)}
    stack.fake.store(path, {"metadata": metadata, "spec": {}, "status": {"active": 1, "startTime": ago(minutes=4)}})
    (text,) = texts(look())
    assert text.startswith("Job mlflow/mlflow-migrate-1a2b3c4d runs since ")
    assert text.endswith(", 4 min ago; calls may be held until it has ended")


def test_what_playbooks_have_begun(stack, look):
    begun = NOW - timedelta(hours=1)
    rotation = {
        "what": ["mlflow-db-credentials", "tokens"],
        "begun": begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {},
    }
    stack.note("mlflow/mlflow-rotation", rotation=json.dumps(rotation))
    stack.note("mlflow/mlflow-upgrade", upgrade=json.dumps({"begun": str(int(begun.timestamp())), "before": {}}))
    stack.note("mlflow-backup/restore", asked="20261130-020000F ")
    time = f"{begun:%Y-%m-%d %H:%M}"
    assert texts(look()) == [
        f"The upgrade of {time} has not ended, and may hold calls: unless it still runs, run upgrade.yml again",
        f"The rotation of {time} of mlflow-db-credentials and tokens has not ended: unless it still runs, run "
        "rotate.yml again with -e platform_rotate=mlflow-db-credentials,tokens",
        "The restore of 20261130-020000F has not ended: unless it still runs, run restore.yml again with the same "
        "variables",
    ]


def test_notes_that_cannot_be_read_are_notes_still(stack, look):
    stack.note("mlflow/mlflow-upgrade", upgrade="no JSON")
    stack.note("mlflow/mlflow-rotation")
    assert [each["kind"] for each in look()["pending"]] == ["upgrade", "rotation"]


def test_suspended(stack, look):
    stack.of("CronJob", "mlflow-backup/backup")["spec"]["suspend"] = True
    # One that the inventory does not ask for never ran.
    stack.of("CronJob", "mlflow/mlflow-traces")["status"] = {"lastScheduleTime": ago(days=1)}
    assert texts(look()) == [
        "CronJob mlflow-backup/backup is suspended",
        "CronJob mlflow/mlflow-traces is suspended",
    ]


def test_no_backup_yet(stack, look):
    stack.of("CronJob", "mlflow-backup/backup")["status"] = {}
    stack.of("CronJob", "mlflow-backup/restore-drill")["status"] = {}
    result = look()
    assert result["backups"]["last_backup"] == ""
    assert result["backups"]["last_backup_age"] is None
    assert texts(result) == ["No backup is known to have ended well: run backup.yml"]
    assert "  last backup  none is known" in result["page"]


def test_certificates_that_are_to_be_renewed(stack, look):
    stack.certificate("minio/minio-tls", 90, 29)
    stack.certificate("postgres/postgres-tls", 90, -2)
    stack.certificate("keycloak/supplied", 90, 29, labels={})
    stack.certificate("mlflow/supplied", 90, 10, labels={})
    stack.certificate("mlflow/issued", 90, 16, annotations={"cert-manager.io/certificate-name": "issued"})
    result = look()
    assert [(each["name"], each["renewed_by"]) for each in result["certificates"]] == [
        ("postgres-tls", "site.yml"),
        ("supplied", ""),
        ("issued", "cert-manager"),
        ("supplied", ""),
        ("minio-tls", "site.yml"),
        ("mlflow-internal-tls", "site.yml"),
        ("keycloak-tls", "site.yml"),
    ]
    first, second, third = texts(result)
    assert first.startswith("Certificate postgres/postgres-tls ended ")
    assert first.endswith(" ago: site.yml renews it")
    assert second.startswith("Certificate mlflow/supplied ends ")
    assert second.endswith(": who supplied it has to renew it")
    assert third.startswith("Certificate minio/minio-tls ends ")
    page = result["page"]
    assert "  and 2 more that end later" in page
    assert "  postgres/postgres-tls  " in page[page.index("CERTIFICATES") + 1]
    assert page[page.index("CERTIFICATES") + 1].endswith("ENDED")
    assert [each["name"] for each in look(soon_days=20)["pending"]][:2] == ["postgres/postgres-tls", "mlflow/supplied"]
    assert "mlflow/issued" in [each["name"] for each in look(soon_days=20)["pending"]]


def test_a_certificate_that_is_none(stack, look):
    stack.fake.secret(
        "mlflow/broken", {"tls.crt": b"none", "tls.key": b"the-planted-password"}, type="kubernetes.io/tls"
    )
    result = look()
    assert texts(result) == ["Secret mlflow/broken has no certificate that can be read"]


def test_a_token_that_ends(stack, look):
    stack.token("pipelines/old", "weekly", 3)
    stack.token("pipelines/basic", "basic", 3)
    del stack.fake.objects["/api/v1/namespaces/pipelines/secrets/basic"]["metadata"]["annotations"][
        "mlops.mlflow/expires"
    ]
    result = look()
    (text,) = texts(result)
    assert text.startswith("Token of weekly in Secret pipelines/old ends ")
    assert text.endswith(": access.yml renews it")
    assert [each["owner"] for each in result["tokens"]] == ["weekly", "nightly", "basic"]
    assert any(line.endswith("has no end") for line in result["page"])


def test_credentials_without_a_backup(stack, look, sealing_secrets):
    keys = [each["metadata"]["name"] for each in sealing_secrets]
    for each, time in zip(sealing_secrets, ({"hours": 1}, {"hours": 1}, {"days": 9}), strict=True):
        each["metadata"]["creationTimestamp"] = ago(**time)
        stack.fake.store(f"/api/v1/namespaces/sealed-secrets/secrets/{each['metadata']['name']}", each)
    sealing_secrets[1]["metadata"]["annotations"] = {"mlops.mlflow/backed-up": ago(minutes=1)}
    stack.secret("mlflow/mlflow-new", creationTimestamp=ago(hours=1))
    written = [{"manager": "mlops.mlflow", "time": ago(hours=2), "fieldsV1": {"f:data": {"f:password": {}}}}]
    stack.secret("postgres/rotated", managedFields=written)
    labelled = [{"manager": "mlops.mlflow", "time": ago(hours=2), "fieldsV1": {"f:metadata": {}}}]
    stack.secret("postgres/labelled", managedFields=labelled)
    result = look()
    # The third one was there at the last backup.
    assert texts(result) == [
        f"No backup is known of the sealing key {keys[0]}: run sealing_keys_backup.yml",
        "No backup has the present values of mlflow/mlflow-new and postgres/rotated: run backup.yml, or wait for the "
        "next one",
    ]
    assert not [each for each in result["certificates"] if each["namespace"] == "sealed-secrets"]
    # Without backups of the stack, all keys need one.
    without = {name: place for name, place in PLACES.items() if name != "backup"}
    assert texts(look(components=without)) == [
        f"No backup is known of the sealing key {keys[0]} and {keys[2]}: run sealing_keys_backup.yml"
    ]


def test_what_is_not_unsealed_issued_or_bound(stack, look):
    status = {
        "observedGeneration": 1,
        "conditions": [{"type": "Synced", "status": "False", "message": "no key could decrypt"}],
    }
    for name, told in (
        ("good", {"observedGeneration": 1, "conditions": [{"type": "Synced", "status": "True"}]}),
        ("bad", status),
    ):
        metadata = {"labels": dict(MANAGED), "generation": 1}
        path = f"/apis/bitnami.com/v1alpha1/namespaces/mlflow/sealedsecrets/{name}"
        stack.fake.store(path, {"metadata": metadata, "status": told})
    issuing = {"conditions": [{"type": "Ready", "status": "False", "message": "Issuing certificate"}]}
    path = "/apis/cert-manager.io/v1/namespaces/mlflow/certificates/mlflow-tls"
    stack.fake.store(path, {"metadata": {"labels": dict(MANAGED)}, "status": issuing})
    stack.of("PersistentVolumeClaim", "postgres/postgres-data")["status"] = {"phase": "Pending"}
    volume, certificate, sealed = texts(look())
    assert volume == "Volume postgres/postgres-data is Pending"
    assert certificate == "Certificate mlflow/mlflow-tls is not ready: Issuing certificate"
    assert sealed.startswith("SealedSecret mlflow/bad is not unsealed: no sealing key of this cluster opens it.")


def test_what_mlflow_tells(stack, look, told):
    drilled = NOW - timedelta(minutes=20)
    told(METRICS.format(drill=f"{drilled.timestamp():.9e}", archived=1.7e9, failed=1.8e9))
    result = look()
    assert result["backups"]["last_drill"] == ago(minutes=20)
    assert texts(result) == ["PostgreSQL could not archive its write-ahead log since 2023-11-14 22:13: see its log"]


def test_mlflow_does_not_tell(stack, look, told):
    told("")
    result = look()
    assert result["unreadable"] == ["metrics"]
    assert result["backups"]["last_drill"] == ago(days=2, hours=7)
    assert result["page"][-1] == "This user may not read, so that it is missing here: metrics"


def test_what_may_not_be_read_is_named_and_taken_for_nothing(stack, look):
    for path in ("/apis/apps/v1/deployments", "/apis/batch/v1/cronjobs", "/api/v1/secrets"):
        stack.fake.answers[f"GET {path}"] = stack.fake.status(403, "Forbidden", "forbidden")
    result = look()
    assert result["unreadable"] == ["deployments", "cron_jobs", "secrets"]
    assert result["state"] == "unknown"
    assert result["sentence"] == "3 of 6 components are ready; sealed_secrets, mlflow and backup are not to be seen"
    assert "No backup is known to have ended well: run backup.yml" not in texts(result)


def test_a_cluster_that_cannot_be_used(bare, look, run):
    bare.fake.answers["GET /api/v1/namespaces"] = bare.fake.status(401, "Unauthorized", "Unauthorized")
    result = run("stack_info", components=PLACES)
    assert result["failed"]
    assert result["msg"].startswith("The cluster cannot be used: ")


# --- the playbook -----------------------------------------------------------------------------------------------------


@pytest.fixture
def play(kubeconfig, tmp_path):
    """Give a function that runs playbooks/status.yml, and gives what it printed."""
    hosts = {"production": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    shared = {"kubeconfig_path": kubeconfig, "platform_components": NAMED, "mlflow_state": "present"}
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"mlflow": {"hosts": hosts, "vars": shared}}))
    # Ansible's own settings, as users have them.
    settings = tmp_path / "ansible.cfg"
    settings.write_text("[defaults]\n")

    def call(*words: str, **environment: str) -> str:
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory]
        done = subprocess.run(
            [*command, REPOSITORY / "playbooks" / "status.yml", *words],
            cwd=tmp_path,
            env={**os.environ, "PWD": str(tmp_path), "ANSIBLE_CONFIG": str(settings), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the-planted-password" not in done.stdout + done.stderr
        return done.stdout

    return call


@pytest.mark.parametrize("words", [(), ("--check", "--diff")])
def test_the_playbook_shows_and_writes_it(stack, play, tmp_path, words):
    printed = play("-e", "platform_status_file=status.json", *words)
    assert "All 6 components are ready." in printed
    assert "changed=0" in printed
    assert stack.fake.writes() == []
    (report,) = json.loads((tmp_path / "status.json").read_text()).values()
    assert report["state"] == "ready"
    assert report["backups"]["last_backup"] == ago(hours=10, minutes=51)
    assert not {"page", "changed", "failed"} & report.keys()


def test_the_playbook_without_a_stack(bare, play, tmp_path):
    printed = play()
    assert "Nothing of this stack is deployed: run site.yml." in printed
    assert "changed=0" in printed
    assert not (tmp_path / "status.json").exists()


def test_a_component_that_is_to_be_absent_is_not_missed(stack, play):
    printed = play("-e", "minio_state=absent")
    assert "All 5 components are ready." in printed


def test_the_playbook_by_a_callback(stack, play):
    """As docs/status.md asks jq."""
    printed = play(ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    tasks = json.loads(printed)["plays"][0]["tasks"]
    (number,) = re.findall(r"\.plays\[0\]\.tasks\[(\d+)\]", (REPOSITORY / "docs" / "status.md").read_text())
    assert tasks[int(number)]["hosts"]["production"]["state"] == "ready"
