# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module manifests_export."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.k8s.manifest import dump
from hypothesis import given
from hypothesis import strategies as st

SEALED = "/apis/bitnami.com/v1alpha1/namespaces/{}/sealedsecrets/{}"
EXTERNAL = "/apis/external-secrets.io/v1/namespaces/{}/externalsecrets/{}"


def thing(kind: str, name: str, namespace: str = "", version: str = "v1", **more: Any) -> dict[str, Any]:
    """Give an object."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def pod(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give the specification of a workload."""
    return {"template": {"spec": {"containers": list(containers), **more}}}


STACK = [
    thing("Namespace", "db"),
    thing("ServiceAccount", "runner", "db"),
    thing("CustomResourceDefinition", "sealedsecrets.bitnami.com", version="apiextensions.k8s.io/v1"),
    thing("ClusterRole", "system:of:ours", version="rbac.authorization.k8s.io/v1"),
    thing("Namespace", "app"),
    thing("ConfigMap", "settings", "app", data={"script": "set -e\necho 'hello'\n", "on": "yes", "port": "0440"}),
    thing("Deployment", "app", "app", version="apps/v1", spec=pod({"name": "app"})),
]
LOGIN = {"namespace": "app", "name": "login"}


def seal(cluster: Any, namespace: str = "app", name: str = "login", **metadata: Any) -> dict[str, Any]:
    """Have the cluster hold a SealedSecret that is in sync."""
    return cluster.store(
        SEALED.format(namespace, name),
        {
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "mlops.mlflow"}],
                **metadata,
            },
            "spec": {"encryptedData": {"password": "AgB0"}, "template": {"type": "Opaque"}},
            "status": {"conditions": [{"type": "Synced", "status": "True"}], "observedGeneration": 3},
        },
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of the export, which is not there yet."""
    return tmp_path / "git" / "stack"


@pytest.fixture
def export(run, folder) -> Any:
    """Give a function that runs the module."""

    def runner(manifests: Any = tuple(STACK), check: bool = False, **options: Any) -> dict[str, Any]:
        return run("manifests_export", check=check, **{"directory": str(folder), "manifests": manifests, **options})

    return runner


def contents(folder: Path) -> dict[str, bytes]:
    """Give all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(folder: Path) -> list[str]:
    """Give the resources of a kustomization."""
    return yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]


# --- what is written --------------------------------------------------------------------------------------------------


def test_one_folder_a_namespace_and_one_file_an_object(cluster, export, folder):
    seal(cluster)
    result = export(secrets=[LOGIN])
    assert result["changed"] is True
    assert result["directory"] == str(folder)
    assert listed(folder) == ["_cluster", "db", "app"]
    assert listed(folder / "_cluster") == [
        "customresourcedefinition-sealedsecrets.bitnami.com.yaml",
        "clusterrole-system-of-ours.yaml",
    ]
    assert listed(folder / "db") == ["namespace-db.yaml", "serviceaccount-runner.yaml"]
    assert listed(folder / "app") == [
        "namespace-app.yaml",
        "sealedsecret-login.yaml",
        "configmap-settings.yaml",
        "deployment-app.yaml",
    ]
    assert set(result["files"]) == set(result["written"]) == set(contents(folder))
    written = [yaml.safe_load(text) for path, text in contents(folder).items() if "kustomization" not in path]
    assert [each for each in STACK if each not in written] == []
    assert all(text.startswith(b"# Written by mlops.mlflow.export") for text in contents(folder).values())


def test_a_sealed_secret_is_as_in_the_cluster_without_what_the_cluster_wrote(cluster, export, folder):
    seal(
        cluster,
        labels={"b": "2", "a": "1", "kustomize.toolkit.fluxcd.io/name": "x"},
        annotations={
            "sealedsecrets.bitnami.com/namespace-wide": "true",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "argocd.argoproj.io/tracking-id": "x",
        },
    )
    export(secrets=[LOGIN])
    assert yaml.safe_load((folder / "app/sealedsecret-login.yaml").read_text()) == {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {
            "name": "login",
            "namespace": "app",
            "labels": {"a": "1", "b": "2"},
            "annotations": {"sealedsecrets.bitnami.com/namespace-wide": "true"},
        },
        "spec": {"encryptedData": {"password": "AgB0"}, "template": {"type": "Opaque"}},
    }
    assert not [each for each in cluster.requests if "/secrets/" in each], "no Secret is ever read"
    assert cluster.writes() == []


def test_an_external_secret_serves_as_well(cluster, export, folder):
    cluster.store(
        EXTERNAL.format("app", "login"),
        {
            "apiVersion": "external-secrets.io/v1",
            "kind": "ExternalSecret",
            "metadata": {"name": "login", "namespace": "app", "ownerReferences": [{"uid": "x"}]},
            "spec": {"refreshInterval": "1h"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "refreshTime": "now"},
        },
    )
    export(secrets=[LOGIN])
    assert yaml.safe_load((folder / "app/externalsecret-login.yaml").read_text()) == thing(
        "ExternalSecret", "login", "app", "external-secrets.io/v1", spec={"refreshInterval": "1h"}
    )


def test_files_that_would_share_a_name_get_a_digest(export, folder):
    roles = [thing("ClusterRole", name, version="rbac.authorization.k8s.io/v1") for name in ("a:b", "a-b")]
    export(manifests=roles)
    names = listed(folder / "_cluster")
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"clusterrole-a-b-[0-9a-f]{8}\.yaml", name) for name in names)


def test_what_others_have_to_provide_is_named(cluster, export, folder):
    seal(cluster)
    seal(cluster, "reports", "login")
    containers = {
        "name": "app",
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}],
        "envFrom": [{"secretRef": {"name": "environment"}}, {"secretRef": {"name": "maybe", "optional": True}}],
    }
    volumes = [
        {"name": "ca", "secret": {"secretName": "db-ca"}},
        {"name": "tls", "secret": {"secretName": "issued"}},
        {"name": "all", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
    ]
    spec = pod(containers, volumes=volumes, imagePullSecrets=[{"name": "registry"}], priorityClassName="data")
    system = pod({"name": "app"}, priorityClassName="system-cluster-critical")
    result = export(
        manifests=[
            thing("Namespace", "app"),
            thing("Deployment", "app", "app", "apps/v1", spec=spec),
            thing("Job", "once", "app", "batch/v1", spec=system),
            # What cert-manager makes.
            thing("Certificate", "mine", "app", "cert-manager.io/v1", spec={"secretName": "issued"}),
        ],
        secrets=[LOGIN, {**LOGIN, "namespace": "reports"}, {"namespace": "app", "name": "s3", "existing": True}],
    )
    assert result["prerequisites"] == [
        "Namespace reports",
        "PriorityClass data",
        "Secret app/db-ca",
        "Secret app/environment",
        "Secret app/projected",
        "Secret app/registry",
        "Secret app/s3",
    ]
    top = (folder / "kustomization.yaml").read_text()
    assert [line for line in top.splitlines() if "needed beforehand" in line] == [
        f"# Not in here, and needed beforehand: {each}" for each in result["prerequisites"]
    ]
    assert not (folder / "app" / "sealedsecret-s3.yaml").exists()


def test_a_secret_that_one_role_makes_is_no_existing_one(cluster, export):
    seal(cluster)
    result = export(secrets=[{**LOGIN, "existing": True}, LOGIN])
    assert result["prerequisites"] == []
    assert "app/sealedsecret-login.yaml" in result["files"]


# --- again ------------------------------------------------------------------------------------------------------------


def test_a_second_export_touches_nothing(cluster, export, folder):
    seal(cluster)
    export(secrets=[LOGIN])
    before = contents(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    cluster.objects[SEALED.format("app", "login")]["metadata"]["resourceVersion"] = "999"
    result = export(secrets=[LOGIN])
    assert result["changed"] is False
    assert (result["written"], result["removed"], result["diff"]) == ([], [], [])
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_what_no_longer_belongs_is_removed_and_a_users_files_stay(export, folder):
    export()
    (folder / "db" / "mine.yaml").write_text("# mine\n")
    (folder / "db" / "serviceaccount-runner.yaml").write_text("# I made it my own\n")
    (folder / "notes").mkdir()
    (folder / "notes" / "kustomization.yaml").write_text("resources: []\n")
    (folder / "README.md").write_text("mine")
    result = export(manifests=STACK[4:])
    assert result["removed"] == [
        "_cluster/clusterrole-system-of-ours.yaml",
        "_cluster/customresourcedefinition-sealedsecrets.bitnami.com.yaml",
        "_cluster/kustomization.yaml",
        "db/kustomization.yaml",
        "db/namespace-db.yaml",
    ]
    assert listed(folder) == ["app"]
    assert not (folder / "_cluster").exists()
    assert (folder / "db" / "mine.yaml").read_text() == "# mine\n"
    assert (folder / "db" / "serviceaccount-runner.yaml").read_text() == "# I made it my own\n"
    assert {"README.md", "notes/kustomization.yaml"} <= set(contents(folder))


def test_another_stacks_export_below_stays(export, folder):
    export(directory=str(folder / "other"))
    before = contents(folder)
    export(manifests=STACK[4:])
    assert before.items() <= contents(folder).items()


@pytest.mark.parametrize("survived", range(5))
def test_a_run_that_was_killed_can_be_run_again(export, folder, monkeypatch, survived):
    whole = folder.with_name("whole")
    export(directory=str(whole))
    export(manifests=STACK[:4])
    left, replace = iter(range(survived)), os.replace

    def dying(source: Any, target: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            export()
    assert contents(folder) != contents(whole)
    export()
    assert contents(folder) == contents(whole)


def test_check_mode_tells_what_a_run_does(cluster, export, folder):
    seal(cluster)
    planned = export(secrets=[LOGIN], check=True)
    assert planned["changed"] is True
    assert not folder.exists()
    done = export(secrets=[LOGIN])
    assert {key: planned[key] for key in ("files", "written", "removed", "diff")} == {
        key: done[key] for key in ("files", "written", "removed", "diff")
    }
    before = contents(folder)
    planned = export(manifests=STACK[4:], check=True)
    assert planned["removed"]
    assert contents(folder) == before
    assert {each["after"] for each in planned["diff"] if each["before_header"] in planned["removed"]} == {""}


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_a_secret_without_a_sealed_form(cluster, export, folder):
    seal(cluster)
    cluster.secret("app/plain", {"password": b"planted-0123456789"})
    cluster.secret("app/other", {"password": b"planted-0123456789"})
    result = export(secrets=[LOGIN, {"namespace": "app", "name": "plain"}, {"namespace": "app", "name": "other"}])
    assert result["msg"] == (
        "The stack is not exported: Secret app/plain (and 1 more) has no SealedSecret or ExternalSecret that could "
        "stand for it: set platform_secrets_backend to sealed_secrets (or to vault, with vault_delivery "
        "external_secrets), run site.yml, and export again"
    )
    assert not folder.exists()
    assert "planted" not in result["_output"]


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ([], "Synced is not set: it was not processed yet"),
        ([{"type": "Synced", "status": "False", "message": "no key\ncould"}], "Synced is False: no key could"),
    ],
)
def test_a_sealed_secret_that_does_not_open(cluster, export, folder, conditions, why):
    seal(cluster)["status"]["conditions"] = conditions
    result = export(secrets=[LOGIN])
    assert result["msg"] == (
        f"The stack is not exported: SealedSecret app/login does not deliver its Secret ({why}): "
        "run site.yml until it does, then export again"
    )
    assert not folder.exists()


@pytest.mark.parametrize(
    ("manifests", "message"),
    [
        ([thing("Secret", "planted", "app", data={})], "Secret app/planted must not be among manifests"),
        ([thing("SecretList", "planted", items=[])], "SecretList planted must not be among manifests"),
        ([{"kind": "Pod", "metadata": {"name": "x"}}], "entry 1 of manifests lacks apiVersion, kind or metadata"),
        ([STACK[0], {"apiVersion": "v1", "kind": "Pod", "metadata": {}}], "entry 2 of manifests, of kind Pod, lacks"),
        ([STACK[0], {**STACK[0], "spec": {}}], "Namespace db is in manifests more than once, with different contents"),
    ],
)
def test_what_is_no_manifest_for_git(export, folder, manifests, message):
    result = export(manifests=manifests)
    assert result["msg"].startswith(f"The stack is not exported: {message}")
    assert not folder.exists()


def test_equal_entries_are_one(export):
    assert len(export(manifests=[STACK[0], STACK[0]])["files"]) == 3


@pytest.mark.parametrize("what", ["kustomization.yaml", "db/namespace-db.yaml", "db/kustomization.yaml"])
def test_a_users_file_in_the_way(export, folder, what):
    (folder / what).parent.mkdir(parents=True)
    (folder / what).write_text("resources: []\n")
    result = export()
    assert result["msg"] == (
        f"The stack is not exported: {folder / what} is there and is not of an export to this folder: move it, or "
        "choose another platform_export_directory"
    )
    assert contents(folder) == {what: b"resources: []\n"}


def test_the_folder_of_a_namespace_is_no_folder_for_a_stack(export, folder):
    export()
    before = contents(folder)
    assert "is not of an export to this folder" in export(directory=str(folder / "db"))["msg"]
    assert contents(folder) == before


def test_a_file_where_a_folder_should_be(export, folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("mine")
    assert export()["msg"].startswith(f"The stack is not exported: {folder} is no folder: move it")
    folder.unlink()
    folder.mkdir()
    (folder / "db").write_text("mine")
    assert export()["msg"].startswith(f"The stack is not exported: {folder / 'db'} is no folder: move it")
    assert contents(folder) == {"db": b"mine"}


def test_a_link_to_elsewhere_is_not_followed(export, folder, tmp_path):
    export()
    elsewhere = tmp_path / "elsewhere.yaml"
    (folder / "db" / "namespace-db.yaml").rename(elsewhere)
    (folder / "db" / "namespace-db.yaml").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert "is not of an export to this folder" in export()["msg"]
    assert elsewhere.read_bytes() == before


def test_an_empty_name_of_a_folder(export):
    assert export(directory="")["msg"].endswith("directory (platform_export_directory) is empty: name a folder")


def test_a_folder_that_cannot_be_written(export):
    result = export(directory="/proc/no-such")
    assert result["msg"] == (
        "The stack is not exported: /proc/no-such cannot be used (No such file or directory), "
        "repair that and run it again"
    )


# --- YAML -------------------------------------------------------------------------------------------------------------


# Plain, some of these are numbers, dates or truth values to one reader of YAML and strings to the other.
WORDS = (
    "y",
    "N",
    "on",
    "null",
    "~",
    "1e3",
    "5e123456",
    "0o17",
    "0440",
    "1_0",
    "1:30",
    ".5",
    "=",
    "<<",
    "0x1f",
    "2026-01-01",
)


@pytest.mark.parametrize("word", WORDS)
def test_a_string_stays_one_for_all_readers(word):
    assert f'"{word}"' in dump({"a": word})


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none() | st.lists(st.text())))
def test_what_is_written_is_what_is_read(data):
    assert yaml.safe_load(dump(data)) == data


def test_scripts_are_written_to_be_read():
    assert dump({"run.sh": "set -e\nexit 0\n"}) == "run.sh: |\n  set -e\n  exit 0\n"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl, which the tests' cluster brings")
def test_kubectl_reads_it_as_it_was_meant(cluster, export, folder):
    seal(cluster)
    # PyYAML, which reads the answer here, has meanings of its own for two signs.
    words = {f"word-{number}": word for number, word in enumerate(WORDS) if word not in ("=", "<<")}
    settings = thing("ConfigMap", "words", "app", data={**words, "script": "#!/bin/sh\n\techo\n", "é": " ü "})
    export(manifests=[*STACK, settings], secrets=[LOGIN])
    built = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True).stdout
    read = list(yaml.safe_load_all(built))
    assert len(read) == len(STACK) + 2
    assert settings in read
    assert [each for each in STACK if each not in read] == []
