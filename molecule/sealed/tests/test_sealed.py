"""Sealed files are stable, their keys survive the cluster, and failures are reported in one sentence.

The tests build on one another, and the last ones delete the cluster.
"""

import contextlib
import json
import re
import subprocess

import pytest
import yaml

from tests.lib.drill import KIND, SITE, differing

BACKUP = "playbooks/sealing_keys_backup.yml"
RESTORE = "playbooks/sealing_keys_restore.yml"
REMINDER = "No backup is known of"
LENGTH = 700
# Names in the documentation.
KNOWN = {"mlflow/mlflow-db-credentials", "mlflow/mlflow-s3-secret", "mlflow/mlflow-oidc-credentials"}
NEW_VALUE = "a-secret-key-of-the-tests"


def git(folder, *words):
    """Run git in a repository of the tests, and return its output."""
    author = ["-c", "user.name=tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *author, *words], check=True, capture_output=True, text=True).stdout


def files(sealed):
    """Return the sealed files by "namespace/name"."""
    return {f"{path.parent.name}/{path.stem}": path for path in sealed.glob("*/*.yaml")}


def states(sealed):
    """Return modification time, inode and content of each file."""
    return {
        name: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for name, path in files(sealed).items()
    }


def sentence(run):
    """Return the failure message of a run as one line; exactly one task failed, without a traceback."""
    assert run.code != 0, f"it passed, see {run.log}"
    assert "Traceback" not in run.output, run.log
    failed = list(re.finditer(r"^fatal: \[[\w-]+\].*?=> (?={)", run.output, re.M))
    assert len(failed) == 1, run.log
    result, _unused = json.JSONDecoder().raw_decode(run.output, failed[0].end())
    message = re.sub(r"\s+", " ", result["msg"]).strip()
    assert len(message) < LENGTH, message
    return message


@pytest.fixture(autouse=True)
def _failures_as_json(monkeypatch):
    monkeypatch.setenv("ANSIBLE_CALLBACK_RESULT_FORMAT", "json")


@pytest.fixture
def another_value(monkeypatch, tmp_path):
    """Supply another credential, so that a run has something to seal."""
    monkeypatch.setenv("NEW_VALUE", NEW_VALUE)
    given = {"mlflow-s3-secret": {"AWS_SECRET_ACCESS_KEY": {"env": "NEW_VALUE"}}}
    (tmp_path / "supplied.yml").write_text(yaml.safe_dump({"platform_credentials": given}))
    # Without the role sealed_secrets, which would repair the controller first.
    return ("--tags", "minio", "-e", f"@{tmp_path / 'supplied.yml'}")


def keys_of_the_cluster(drill):
    """Return the names of the sealing keys."""
    label = "-l=sealedsecrets.bitnami.com/sealed-secrets-key"
    return set(drill.stack.kubectl("-n", "sealed-secrets", "get", "secrets", label, "-o", "name").split())


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_no_file(drill, sealed):
    assert set(files(sealed)) >= KNOWN
    git(sealed, "init", "--quiet")
    git(sealed, "add", ".")
    git(sealed, "commit", "--quiet", "-m", "Seal the credentials")
    before = states(sealed)
    drill.run(SITE).expect_no_change("site.yml, once more")
    git(sealed, "diff", "--exit-code")
    assert git(sealed, "status", "--porcelain") == ""
    assert states(sealed) == before


def test_lost_file_is_restored_unchanged(drill, sealed):
    files(sealed)["mlflow/mlflow-s3-secret"].unlink()
    done = drill.run(SITE, "--tags", "minio,mlflow").expect_success("site.yml without a file")
    assert done.count("changed") >= 1
    git(sealed, "diff", "--exit-code")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_site_reminds_until_the_keys_are_backed_up(drill, vault):
    reminded = drill.run(SITE, "--tags", "sealed_secrets,minio").expect_success("site.yml before the backup")
    assert REMINDER in reminded.output
    done = drill.run(BACKUP, *vault(), "--diff").expect_success("the backup")
    assert done.count("changed") == 1
    before = vault.file.stat()
    drill.run(BACKUP, *vault()).expect_no_change("the backup, once more")
    assert (vault.file.stat().st_mtime_ns, vault.file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    again = drill.run(SITE, "--tags", "sealed_secrets,minio").expect_no_change("site.yml after the backup")
    assert REMINDER not in again.output


# --- failures: one sentence, and nothing is changed -------------------------------------------------------------------


@contextlib.contextmanager
def nothing_changed(drill, sealed):
    """Check that no credential and no sealed file changes."""
    credentials, before = drill.credentials(), states(sealed)
    yield
    assert differing(credentials, drill.credentials()) == []
    assert states(sealed) == before


def test_a_controller_that_is_down(drill, sealed, another_value):
    stack = drill.stack
    where = ("-n", "sealed-secrets")
    with nothing_changed(drill, sealed):
        stack.kubectl(*where, "scale", "deployment/sealed-secrets-controller", "--replicas=0")
        stack.kubectl(
            *where, "wait", "--for=delete", "pod", "-l=app.kubernetes.io/name=sealed-secrets", "--timeout=60s"
        )
        try:
            message = sentence(drill.run(SITE, *another_value))
        finally:
            stack.kubectl(*where, "scale", "deployment/sealed-secrets-controller", "--replicas=1")
            stack.kubectl(*where, "rollout", "status", "deployment/sealed-secrets-controller", "--timeout=120s")
    assert "the Sealed Secrets controller sealed-secrets/sealed-secrets-controller does not answer" in message


def test_two_controllers(drill, sealed, another_value):
    stack = drill.stack
    with nothing_changed(drill, sealed):
        stack.kubectl("create", "namespace", "sealed-again")
        try:
            stack.kubectl(
                "-n",
                "sealed-again",
                "create",
                "deployment",
                "sealed-secrets-controller",
                "--image=none",
                "--replicas=0",
            )
            message = sentence(drill.run(SITE, *another_value))
        finally:
            stack.kubectl("delete", "namespace", "sealed-again")
    assert "the Sealed Secrets controller sealed-again/sealed-secrets-controller already" in message
    assert "leave sealed_secrets out of platform_components" in message


def test_file_of_another_secret(drill, sealed):
    found = files(sealed)
    place, other = found["mlflow/mlflow-s3-secret"], found["mlflow/mlflow-db-credentials"]
    credentials, right = drill.credentials(), place.read_bytes()
    place.write_bytes(other.read_bytes())
    try:
        message = sentence(drill.run(SITE, "--tags", "minio"))
        assert place.read_bytes() == other.read_bytes()
    finally:
        place.write_bytes(right)
    assert f"the sealed file {place} is of mlflow/mlflow-db-credentials" in message
    assert differing(credentials, drill.credentials()) == []


def test_a_backup_that_cannot_be_opened(drill, sealed, vault):
    before = vault.file.read_bytes()
    with nothing_changed(drill, sealed):
        for playbook in (BACKUP, RESTORE):
            message = sentence(drill.run(playbook, *vault("another")))
            assert f"sealed_secrets_keys_file is '{vault.file}'" in message
            assert "cannot be opened by the vault passwords that were given" in message
            assert "no vault password was given" in sentence(drill.run(playbook, *vault()[2:]))
        message = sentence(drill.run(RESTORE, *vault()[:2], "-e", "sealed_secrets_keys_file=/nowhere/keys"))
        assert "sealed_secrets_keys_file is '/nowhere/keys': there is no such file" in message
    assert vault.file.read_bytes() == before


# --- the cluster is gone ----------------------------------------------------------------------------------------------


def test_credentials_survive_the_loss_of_the_cluster(drill, sealed, vault):
    """After recreating the cluster and restoring the keys, site.yml deploys from the sealed files alone."""
    credentials, keys, before = drill.credentials(), keys_of_the_cluster(drill), states(sealed)
    assert {name.rpartition("/")[0] for name in credentials} >= KNOWN
    drill.say("  deleting the cluster ...")
    drill.run(KIND, "-e", "kind_cluster_state=absent").expect_success("deleting the cluster")
    drill.run(KIND).expect_success("making another one")
    restored = drill.run(RESTORE, *vault()).expect_success("restoring the keys")
    assert restored.count("changed") == 1
    assert keys_of_the_cluster(drill) == keys
    drill.run(RESTORE, *vault()).expect_no_change("restoring the keys, once more")

    done = drill.site("site.yml from the sealed files alone")
    assert REMINDER not in done.output, "what was restored is in the backup"
    assert differing(credentials, drill.credentials()) == []
    assert keys_of_the_cluster(drill) == keys, "the controller created a key of its own"
    assert states(sealed) == before
    git(sealed, "diff", "--exit-code")
    drill.use("on another cluster")
    drill.run(SITE).expect_no_change("site.yml, once more")
    drill.run(BACKUP, *vault()).expect_no_change("a backup of what was restored")


def test_without_the_keys_nothing_is_generated(drill, sealed, vault):
    """Without the keys, credentials are not replaced by new ones, and the keys can be restored later."""
    credentials, before = drill.credentials(), states(sealed)
    aside = sealed.rename(sealed.with_name("sealed-aside"))
    drill.clear()  # also deletes the sealed files
    aside.rename(sealed)
    message = sentence(drill.run(SITE))
    assert "no sealing key of this cluster opens it" in message
    assert "playbooks/sealing_keys_restore.yml" in message
    assert states(sealed) == before

    # The controller is running, with a new key.
    restored = drill.run(RESTORE, *vault()).expect_success("restoring the keys")
    assert restored.count("changed") == 1
    done = drill.site("site.yml after the keys were restored")
    assert REMINDER in done.output, "the controller's own key is in no backup"
    assert differing(credentials, drill.credentials()) == []
    assert states(sealed) == before
    drill.use("with keys that were restored later")
    added = drill.run(BACKUP, *vault()).expect_success("adding the new key")
    assert added.count("changed") == 1


def test_file_sealed_for_another_secret(drill, sealed):
    """Strict scope: values sealed for one Secret cannot be opened under another name."""
    stack = drill.stack
    place = files(sealed)["mlflow/mlflow-s3-secret"]
    right = place.read_bytes()
    moved = yaml.safe_load(files(sealed)["mlflow/mlflow-oidc-credentials"].read_text())
    for metadata in (moved["metadata"], moved["spec"]["template"]["metadata"]):
        metadata["name"] = "mlflow-s3-secret"
    for namespace in ("mlflow", "minio"):
        stack.kubectl("-n", namespace, "delete", "sealedsecret", "mlflow-s3-secret", "--ignore-not-found")
        stack.kubectl("-n", namespace, "wait", "--for=delete", "secret/mlflow-s3-secret", "--timeout=60s", check=False)
    place.write_text(yaml.safe_dump(moved))
    try:
        message = sentence(drill.run(SITE, "--tags", "minio"))
    finally:
        place.write_bytes(right)
        stack.kubectl("-n", "mlflow", "delete", "sealedsecret", "mlflow-s3-secret", "--ignore-not-found")
    assert "It was sealed for another name or namespace" in message
    drill.run(SITE).expect_success("site.yml with the right file")
    git(sealed, "diff", "--exit-code")
