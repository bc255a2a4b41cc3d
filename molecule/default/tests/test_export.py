"""The export of a running stack equals the cluster, is deterministic, and contains no credentials."""

import json
import re
import subprocess

import pytest
import yaml

from tests.lib import leaks
from tests.lib import stack as stacks

PLAYBOOK = "playbooks/export.yml"


def contents(folder):
    """Return all files below a directory by their relative paths."""
    return {str(path.relative_to(folder)): path.read_bytes().decode() for path in folder.rglob("*") if path.is_file()}


def export(stack, folder, *words):
    return stack.playbook("-e", f"platform_export_directory={folder}", *words, playbook=PLAYBOOK)


def difference(stack, folder):
    """Return exit code (0: equal, 1: different) and output of `kubectl diff`."""
    command = ["kubectl", "--kubeconfig", stack.kubeconfig, "diff", "--server-side", "--field-manager", "mlops.mlflow"]
    done = subprocess.run([*command, "-k", folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sealed(stack):
    """Whether the stack's Secrets have a form that may be in git."""
    kinds = stack.kubectl("api-resources", "-o", "name").split()
    found = [kind for kind in kinds if kind in ("sealedsecrets.bitnami.com", "externalsecrets.external-secrets.io")]
    listed = [stack.kubectl("-n", stacks.NAMESPACES["mlflow"], "get", kind, "-o", "name") for kind in found]
    return "mlflow-session-keys" in "".join(listed)


@pytest.fixture(scope="module")
def exported(stack, sealed, tmp_path_factory):
    """The directory of an export."""
    if not sealed:
        pytest.skip("this stack keeps credentials in plain Secrets only")
    folder = tmp_path_factory.mktemp("export") / "gitops"
    run = export(stack, folder)
    assert run.code == 0, run.output
    assert run.count("changed") == 1, run.output
    return folder


def test_plain_secrets_are_not_exported(stack, sealed, tmp_path):
    if sealed:
        pytest.skip("this stack's credentials have a form for git")
    run = export(stack, tmp_path / "gitops")
    assert run.code != 0
    words = " ".join(run.output.split())
    assert re.search(r"Secret \S+/\S+ \(and \d+ more\) has no SealedSecret or ExternalSecret that could stand", words)
    assert "set platform_secrets_backend to sealed_secrets" in words
    assert not (tmp_path / "gitops").exists()


def test_export_equals_the_cluster(stack, exported):
    assert difference(stack, exported) == (0, "")


def owned(listed):
    """Return the fields of each object that our field manager owns."""
    return {
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]): [
            entry["fieldsV1"]
            for entry in item["metadata"]["managedFields"]
            if (entry["manager"], entry["operation"]) == ("mlops.mlflow", "Apply")
        ]
        for item in json.loads(listed)["items"]
    }


def test_applied_export_owns_the_same_fields_as_site_yml(stack, exported):
    """Otherwise each would change the other's ownership of fields."""
    more = ["-k", exported, "-o", "json", "--show-managed-fields"]
    before = owned(stack.kubectl("get", *more))
    tried = ["apply", "--server-side", "--field-manager", "mlops.mlflow", "--dry-run=server"]
    after = owned(stack.kubectl(*tried, *more))
    assert any(before.values())
    # The credentials module updates objects without server-side apply, so an export adds field ownership.
    assert {place: fields for place, fields in after.items() if fields != before[place] and before[place]} == {}


def test_difference_is_detected(stack, exported):
    """Control of the test above: one changed number is reported."""
    path = exported / "mlflow" / "deployment-mlflow.yaml"
    before = path.read_text()
    assert before.count("replicas: 2") == 1
    path.write_text(before.replace("replicas: 2", "replicas: 3"))
    try:
        code, output = difference(stack, exported)
    finally:
        path.write_text(before)
    assert code == 1, output
    assert re.search(r"^\+\s+replicas: 3", output, re.M), output


def test_export_is_complete(stack, exported):
    """Each workload and Service of the stack's namespaces, and each Secret in sealed form."""
    kinds = {
        "deployments": "Deployment",
        "statefulsets": "StatefulSet",
        "services": "Service",
        "configmaps": "ConfigMap",
        "cronjobs": "CronJob",
    }
    files = contents(exported)
    for namespace in stacks.NAMESPACES.values():
        for plural, kind in kinds.items():
            for found in stack.kubectl("-n", namespace, "get", plural, "-o", "name").split():
                name = found.partition("/")[2]
                if name != "kube-root-ca.crt":  # created by Kubernetes in each namespace
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


def test_export_contains_no_credentials(stack, exported):
    secrets = stack.secret_values()
    assert len(secrets) > 5
    files = contents(exported)
    kinds = {thing["kind"] for text in files.values() for thing in yaml.safe_load_all(text)}
    assert "Secret" not in kinds
    text = "\n".join(files.values())
    assert leaks.leaks(secrets, text) == []
    for name, planted in leaks.PLANTED.items():
        assert leaks.leaks({name: planted}, text + "\n".join(sorted(leaks.forms(planted)))) == [name]


def test_own_files_are_kept_and_obsolete_ones_removed(stack, exported):
    before = contents(exported)
    (exported / "README.md").write_text("mine\n")
    (exported / "mlflow" / "ingress.yaml").write_text("# mine\n")
    # Like the file of an outdated Job.
    stale = exported / "mlflow" / "job-mlflow-migrate-00000000.yaml"
    stale.write_text((exported / "mlflow" / "namespace-mlflow.yaml").read_text())
    shown = export(stack, exported, "--check", "--diff")
    assert shown.count("changed") == 1, shown.output
    assert stale.exists()
    run = export(stack, exported, "--diff")
    assert run.code == 0, run.output
    assert run.count("changed") == 1, run.output
    assert not stale.exists()
    assert contents(exported) == {**before, "README.md": "mine\n", "mlflow/ingress.yaml": "# mine\n"}
