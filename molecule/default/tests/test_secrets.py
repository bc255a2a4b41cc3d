"""Credentials as SealedSecrets: those of the stack, and the module in each possible state."""

import base64
import json
import pathlib
import shutil
import subprocess
import textwrap
import time

import pytest
import yaml

from tests.lib import stack as stacks

ONE, TWO = "tests-sealed-one", "tests-sealed-two"
# Not created by the collection: sealing keys, and Secrets of Kubernetes itself.
OTHERS = ("sealed-secrets-key", "default-token")


@pytest.fixture(scope="module")
def folder(stack):
    """The directory of the stack's sealed files."""
    return pathlib.Path(stack.directory / "sealed")


def state_of(folder):
    """Return content and modification time of all files in a directory, by path."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def sealed_of(stack, namespace, name):
    return json.loads(stack.kubectl("-n", namespace, "get", "sealedsecret", name, "-o", "json"))


def test_every_credential_is_sealed(stack, folder):
    """The controller owns each Secret of the stack, and the files equal the cluster."""
    seen = 0
    for namespace in stacks.NAMESPACES.values():
        for secret in stack.core.list_namespaced_secret(namespace).items:
            name = secret.metadata.name
            if name.startswith(OTHERS):
                continue
            seen += 1
            assert [each.kind for each in secret.metadata.owner_references or []] == ["SealedSecret"], name
            live = sealed_of(stack, namespace, name)
            file = yaml.safe_load((folder / namespace / f"{name}.yaml").read_text())
            assert file["spec"] == live["spec"]
            assert set(file["spec"]["encryptedData"]) == set(secret.data)
    assert seen >= 10
    # Programs have copies in their own namespaces.
    assert len([path for path in state_of(folder) if path.parent.name in stacks.NAMESPACES.values()]) == seen


def test_second_run_leaves_the_directory_unchanged(stack, folder):
    before = state_of(folder)
    done = stack.playbook()
    assert done.code == 0, done.output
    assert done.count("changed") == 0, done.output
    assert state_of(folder) == before


# --- possible states of the cluster


class Login(stacks.Ensured):
    """A Secret in two namespaces, ensured by the module."""

    def __init__(self, stack, folder):
        self.stack = stack
        self.folder = folder
        self.playbook = folder.parent / "login.yml"

    def ensure(self, *words, backend="sealed_secrets", scope="strict", password=None, namespaces=(ONE, TWO)):
        """Run the module; return the result of ansible-playbook."""
        supplied = f"{{login: {{password: {{value: {password}}}}}}}" if password else "{}"
        self.playbook.write_text(
            textwrap.dedent(f"""
                - hosts: mlflow
                  gather_facts: false
                  tasks:
                    - mlops.mlflow.credentials:
                        kubeconfig: {self.stack.kubeconfig}
                        secrets:
                          - name: login
                            namespaces: {json.dumps(list(namespaces))}
                            keys: {{username: {{value: mlflow}}, password: {{generate: password}}}}
                        supplied: {supplied}
                        backend: {backend}
                        sealed_secrets: {{output_dir: {self.folder}, scope: {scope}}}
            """)
        )
        return self.stack.playbook("--diff", *words, playbook=self.playbook)

    def values(self, namespace):
        data = self.stack.core.read_namespaced_secret("login", namespace).data
        return {key: base64.b64decode(value) for key, value in data.items()}

    def everything(self):
        objects = self.stack.kubectl("-n", ONE, "get", "secrets,sealedsecrets", "-o", "json", check=False)
        return (
            objects,
            self.stack.kubectl("-n", TWO, "get", "secrets,sealedsecrets", "-o", "json", check=False),
            state_of(self.folder),
        )

    def remove(self, kind, namespace):
        self.stack.kubectl("-n", namespace, "delete", kind, "login", "--cascade=foreground", "--ignore-not-found")
        stacks.wait_until(
            lambda: "login" not in self.stack.kubectl("-n", namespace, "get", "secrets,sealedsecrets", "-o", "name"),
            20,
            f"the end of {kind} login",
        )


@pytest.fixture
def login(stack, tmp_path):
    """A Secret that is sealed in two namespaces."""
    for namespace in (ONE, TWO):
        stack.kubectl("delete", "namespace", namespace, "--ignore-not-found")
    (tmp_path / "sealed").mkdir()
    made = Login(stack, tmp_path / "sealed")
    changed, _unused = made.changed()
    assert changed
    yield made
    for namespace in (ONE, TWO):
        stack.kubectl("delete", "namespace", namespace, "--wait=false")


def test_namespaces_get_the_same_values_and_second_run_changes_nothing(login):
    assert login.values(ONE) == login.values(TWO)
    assert login.values(ONE)["username"] == b"mlflow"
    before = login.everything()
    assert login.changed()[0] is False
    assert login.everything() == before


def test_secrets_are_restored_from_the_files_alone(login):
    values, files = login.values(ONE), state_of(login.folder)
    for namespace in (ONE, TWO):
        login.remove("sealedsecret", namespace)
    changed, output = login.changed("--check")
    assert changed
    assert "login" in output
    assert login.stack.kubectl("-n", ONE, "get", "secrets,sealedsecrets", "-o", "name") == ""
    assert login.changed()[0] is True
    assert login.values(ONE) == login.values(TWO) == values
    assert state_of(login.folder) == files
    assert login.changed()[0] is False


def test_lost_file_is_rewritten(login):
    path = login.folder / ONE / "login.yaml"
    text = path.read_text()
    path.unlink()
    assert login.changed()[0] is True
    assert path.read_text() == text
    assert login.changed()[0] is False


def test_manually_changed_value_is_sealed(login):
    old = (login.folder / ONE / "login.yaml").read_text()
    time.sleep(2)  # a change within the second of the unsealing is not detected
    login.stack.kubectl("-n", ONE, "patch", "secret", "login", "-p", '{"stringData": {"password": "by hand"}}')
    changed, output = login.changed()
    assert changed
    assert "changed beside it" in output
    assert login.values(ONE)["password"] == login.values(TWO)["password"] == b"by hand"
    assert (login.folder / ONE / "login.yaml").read_text() != old
    assert login.changed()[0] is False


def test_supplied_value_is_sealed_and_other_ciphertexts_are_kept(login):
    before = sealed_of(login.stack, ONE, "login")["spec"]["encryptedData"]
    assert login.changed(password="supplied-now")[0] is True
    after = sealed_of(login.stack, ONE, "login")["spec"]["encryptedData"]
    assert after["username"] == before["username"]
    assert after["password"] != before["password"]
    assert login.values(TWO)["password"] == b"supplied-now"
    assert login.changed(password="supplied-now")[0] is False


@pytest.mark.parametrize("scope", ["namespace-wide", "cluster-wide"])
def test_scope_can_be_changed(login, scope):
    values = login.values(ONE)
    assert login.changed(scope=scope)[0] is True
    assert login.values(ONE) == values
    assert sealed_of(login.stack, ONE, "login")["metadata"]["annotations"] == {
        f"sealedsecrets.bitnami.com/{scope}": "true"
    }
    assert login.changed(scope=scope)[0] is False
    assert login.changed()[0] is True
    assert "annotations" not in sealed_of(login.stack, ONE, "login")["metadata"]
    assert login.values(ONE) == values


def test_switch_to_plain_secrets_and_back(login):
    values = login.values(ONE)
    assert login.changed(backend="kubernetes")[0] is True
    assert login.stack.kubectl("-n", ONE, "get", "sealedsecrets", "-o", "name") == ""
    secret = login.stack.core.read_namespaced_secret("login", ONE)
    assert not secret.metadata.owner_references
    assert login.values(ONE) == login.values(TWO) == values
    assert login.changed(backend="kubernetes")[0] is False
    assert login.changed()[0] is True
    assert login.values(ONE) == login.values(TWO) == values
    assert login.changed()[0] is False


def test_existing_secret_is_adopted_with_unknown_fields(login):
    """Unknown keys, labels and annotations are kept."""
    for namespace in (ONE, TWO):
        login.remove("sealedsecret", namespace)
    shutil.rmtree(login.folder / ONE)
    shutil.rmtree(login.folder / TWO)
    login.stack.kubectl("-n", ONE, "create", "secret", "generic", "login", "--from-literal=other=kept")
    login.stack.kubectl("-n", ONE, "label", "secret", "login", "team=ml")
    login.stack.kubectl("-n", ONE, "annotate", "secret", "login", "note=ours")
    assert login.changed()[0] is True
    secret = login.stack.core.read_namespaced_secret("login", ONE)
    assert login.values(ONE)["other"] == b"kept"
    assert secret.metadata.labels == {"team": "ml"}
    assert secret.metadata.annotations == {"note": "ours"}
    assert login.changed()[0] is False


def test_file_of_another_secret(login):
    shutil.copy(login.folder / ONE / "login.yaml", login.folder / TWO / "login.yaml")
    assert f"is of {ONE}/login, and its place is that of {TWO}/login" in login.fails()


def test_file_with_a_changed_name_inside(login):
    login.remove("sealedsecret", TWO)
    text = (login.folder / ONE / "login.yaml").read_text()
    (login.folder / TWO / "login.yaml").write_text(text.replace(ONE, TWO))
    message = login.fails()
    assert "no sealing key of this cluster opens it" in message
    assert "sealing_keys_restore.yml" in message


def test_file_that_is_not_a_sealedsecret(login):
    (login.folder / TWO / "login.yaml").write_text("kind: Secret\n")
    assert "does not hold one SealedSecret" in login.fails()


def test_directory_that_is_not_writable(login):
    login.remove("sealedsecret", TWO)
    shutil.rmtree(login.folder / TWO)
    (login.folder / TWO).write_text("in the way\n")
    done = login.ensure()
    assert done.code != 0
    assert "cannot be" in done.output
    assert "Traceback" not in done.output


def test_controller_that_is_down(login):
    login.remove("sealedsecret", TWO)
    shutil.rmtree(login.folder / TWO)
    where = ["-n", stacks.NAMESPACES["sealed_secrets"]]
    login.stack.kubectl(*where, "scale", "deployment/sealed-secrets-controller", "--replicas=0")
    try:
        stacks.wait_until(lambda: not login.stack.pods("sealed_secrets"), 60, "the controller's end")
        message = login.fails()
    finally:
        login.stack.kubectl(*where, "scale", "deployment/sealed-secrets-controller", "--replicas=1")
        login.stack.kubectl(*where, "rollout", "status", "deployment/sealed-secrets-controller", "--timeout=120s")
    assert "does not answer (503)" in message
    assert login.changed()[0] is True


def test_two_controllers(login):
    login.remove("sealedsecret", TWO)
    shutil.rmtree(login.folder / TWO)
    image = login.stack.pods("sealed_secrets")[0].spec.containers[0].image
    login.stack.kubectl(
        "-n", ONE, "create", "deployment", "sealed-secrets-controller", f"--image={image}", "--replicas=0"
    )
    try:
        assert "there are 2 Sealed Secrets controllers" in login.fails()
    finally:
        login.stack.kubectl("-n", ONE, "delete", "deployment", "sealed-secrets-controller")


def test_git_tree_contains_no_secret_values(stack):
    """Both committed and untracked files of the checkout are searched."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=stacks.REPOSITORY,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    values = stack.secret_values()
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = stacks.REPOSITORY / name
        text = path.read_text(errors="replace") if path.is_file() else ""
        for secret, value in values.items():
            assert value not in text, f"{secret} in {name}"
