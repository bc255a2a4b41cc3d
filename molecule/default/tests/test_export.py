"""The export of a running stack: equal to what runs, the same each time, and without a credential in it."""

import json
import re
import subprocess

import pytest
import yaml

from tests.lib import leaks
from tests.lib import stack as stacks

PLAYBOOK = "playbooks/export.yml"


def contents(folder):
    """All files below a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes().decode() for path in folder.rglob("*") if path.is_file()}


def export(stack, folder, *words):
    return stack.playbook("-e", f"platform_export_directory={folder}", *words, playbook=PLAYBOOK)


def difference(stack, folder):
    """How `kubectl diff` ends, and what it says: 0 where nothing differs, 1 where something does."""
    command = ["kubectl", "--kubeconfig", stack.kubeconfig, "diff", "--server-side", "--field-manager", "mlops.mlflow"]
    done = subprocess.run([*command, "-k", folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sealed(stack):
    """Whether something stands for the Secrets of this stack that may be in git."""
    kinds = stack.kubectl("api-resources", "-o", "name").split()
    found = [kind for kind in kinds if kind in ("sealedsecrets.bitnami.com", "externalsecrets.external-secrets.io")]
    listed = [stack.kubectl("-n", stacks.NAMESPACES["mlflow"], "get", kind, "-o", "name") for kind in found]
    return "mlflow-session-keys" in "".join(listed)


@pytest.fixture(scope="module")
def exported(stack, sealed, tmp_path_factory):
    """The folder of an export."""
    if not sealed:
        pytest.skip("this stack keeps its credentials as Secrets alone")
    folder = tmp_path_factory.mktemp("export") / "gitops"
    run = export(stack, folder)
    assert run.code == 0, run.output
    assert run.count("changed") == 1, run.output
    return folder


def test_secrets_alone_are_not_exported(stack, sealed, tmp_path):
    if sealed:
        pytest.skip("this stack's credentials have a form for git")
    run = export(stack, tmp_path / "gitops")
    assert run.code != 0
    words = " ".join(run.output.split())
    assert re.search(r"Secret \S+/\S+ \(and \d+ more\) has no SealedSecret or ExternalSecret that could stand", words)
    assert "set platform_secrets_backend to sealed_secrets" in words
    assert not (tmp_path / "gitops").exists()


def test_an_export_differs_in_nothing_from_what_runs(stack, exported):
    assert difference(stack, exported) == (0, "")


def owned(listed):
    """The fields of each object that are applied by our field manager."""
    return {
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]): [
            entry["fieldsV1"]
            for entry in item["metadata"]["managedFields"]
            if (entry["manager"], entry["operation"]) == ("mlops.mlflow", "Apply")
        ]
        for item in json.loads(listed)["items"]
    }


def test_whoever_applies_an_export_owns_what_site_yml_owns(stack, exported):
    """Otherwise, each would change what the other one applied, if only in ownership."""
    more = ["-k", exported, "-o", "json", "--show-managed-fields"]
    before = owned(stack.kubectl("get", *more))
    tried = ["apply", "--server-side", "--field-manager", "mlops.mlflow", "--dry-run=server"]
    after = owned(stack.kubectl(*tried, *more))
    assert any(before.values())
    # What the credentials module makes is updated, not applied, so that an export adds its fields.
    assert {place: fields for place, fields in after.items() if fields != before[place] and before[place]} == {}


def test_the_difference_would_be_seen(stack, exported):
    """The control of the test above: one number is another."""
    path = exported / "mlflow" / "deployment-mlflow.yaml"
    before = path.read_text()
    assert before.count("replicas: 2") == 1
    path.write_text(before.replace("replicas: 2", "replicas: 3"))
    try:
        code, told = difference(stack, exported)
    finally:
        path.write_text(before)
    assert code == 1, told
    assert re.search(r"^\+\s+replicas: 3", told, re.M), told


def test_an_export_holds_what_runs(stack, exported):
    """Each workload and Service of the stack's namespaces, and what stands for each Secret of it."""
    kinds = {
        "deployments": "Deployment",
        "statefulsets": "StatefulSet",
        "services": "Service",
        "configmaps": "ConfigMap",
    }
    files = contents(exported)
    for namespace in stacks.NAMESPACES.values():
        for plural, kind in kinds.items():
            for found in stack.kubectl("-n", namespace, "get", plural, "-o", "name").split():
                name = found.partition("/")[2]
                if name != "kube-root-ca.crt":  # which Kubernetes makes in each namespace
                    assert f"{namespace}/{kind.lower()}-{name}.yaml" in files
        for secret in stack.core.list_namespaced_secret(namespace).items:
            labels = secret.metadata.labels or {}
            if "sealedsecrets.bitnami.com/sealed-secrets-key" not in labels:
                stands = {
                    f"{namespace}/{kind}-{secret.metadata.name}.yaml" for kind in ("sealedsecret", "externalsecret")
                }
                assert stands & files.keys(), f"{namespace}/{secret.metadata.name}"


def test_a_second_export_changes_nothing(stack, exported):
    before = contents(exported)
    run = export(stack, exported, "--diff")
    assert run.code == 0, run.output
    assert run.count("changed") == 0, run.output
    assert contents(exported) == before


def test_two_exports_are_the_same_to_the_byte(stack, exported, tmp_path):
    run = export(stack, tmp_path / "gitops")
    assert run.code == 0, run.output
    assert contents(tmp_path / "gitops") == contents(exported)


def test_an_export_holds_no_credential(stack, exported):
    secrets = stack.secret_values()
    assert len(secrets) > 5
    files = contents(exported)
    kinds = {thing["kind"] for text in files.values() for thing in yaml.safe_load_all(text)}
    assert "Secret" not in kinds
    text = "\n".join(files.values())
    assert leaks.leaks(secrets, text) == []
    for name, planted in leaks.PLANTED.items():
        assert leaks.leaks({name: planted}, text + "\n".join(sorted(leaks.forms(planted)))) == [name]


def test_a_persons_files_stay_and_stale_ones_go(stack, exported):
    before = contents(exported)
    (exported / "README.md").write_text("mine\n")
    (exported / "mlflow" / "ingress.yaml").write_text("# mine\n")
    # As a Job of another content would have left it.
    stale = exported / "mlflow" / "job-mlflow-migrate-00000000.yaml"
    stale.write_text((exported / "mlflow" / "namespace-mlflow.yaml").read_text())
    told = export(stack, exported, "--check", "--diff")
    assert told.count("changed") == 1, told.output
    assert stale.exists()
    run = export(stack, exported, "--diff")
    assert run.code == 0, run.output
    assert run.count("changed") == 1, run.output
    assert not stale.exists()
    assert contents(exported) == {**before, "README.md": "mine\n", "mlflow/ingress.yaml": "# mine\n"}
