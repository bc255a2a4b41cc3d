"""Sealing in Python against the real controller and kubeseal: both directions, three scopes, and a renewal."""

import base64
import contextlib
import datetime
import importlib
import io
import json
import os
import shutil
import subprocess
import time

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import label, load, scope_of, unseal
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.files import hash_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lib import stack as stacks

SCOPES = ("strict", "namespace-wide", "cluster-wide")
CONTROLLER = stacks.NAMESPACES["sealed_secrets"]
KEYS = "sealedsecrets.bitnami.com/sealed-secrets-key"
VALUES = {
    "one": b"\1",
    "newline": b"line\n",
    "unicode": "ünï ☃ {{ x }}".encode(),
    "binary": bytes(range(256)),
    "large": os.urandom(100 * 1024),
}


def encoded(values):
    """Return values as encoded in a Secret."""
    return {key: base64.b64encode(value).decode() for key, value in values.items()}


class Place:
    """A namespace of these tests, and the module's runs in it."""

    def __init__(self, stack, directory):
        self.stack = stack
        self.name = "sealing-tests"
        self.directory = directory
        stack.kubectl("create", "namespace", self.name)

    def module(self, module, /, *, check=False, **options):
        """Run a module of the collection, and return its result."""
        loaded = importlib.import_module(f"ansible_collections.mlops.mlflow.plugins.modules.{module}")
        given = {"kubeconfig": str(self.stack.kubeconfig), **options, "_ansible_check_mode": check}
        printed = io.StringIO()
        with patch_module_args(given), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            loaded.main()
        return json.loads(printed.getvalue())

    def seal(self, name, **options):
        """Run the module sealed_secret in this namespace."""
        return self.module("sealed_secret", name=name, namespace=self.name, **options)

    def secret(self, name):
        """Return a Secret as the API server has it."""
        return json.loads(self.stack.kubectl("-n", self.name, "get", "secret", name, "-o", "json"))

    def values(self, name):
        """Return the values of a Secret."""
        return {key: base64.b64decode(value) for key, value in self.secret(name)["data"].items()}

    def sealed(self, name):
        """Return a SealedSecret as the API server has it."""
        return json.loads(self.stack.kubectl("-n", self.name, "get", "sealedsecret", name, "-o", "json"))

    def apply(self, manifest):
        """Apply a manifest, given as text or as an object."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        self.stack.kubectl("-n", self.name, "apply", "--server-side", "--force-conflicts", "-f", "-", text=text)

    def plain(self, name, values, **more):
        """Create a plain Secret."""
        metadata = {"name": name, "namespace": self.name, **more}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded(values)})

    def unsealed(self, name):
        """Wait until the controller has created the Secret, and return its values."""
        condition = "jsonpath={.status.conditions[?(@.type=='Synced')].status}=True"
        self.stack.kubectl("-n", self.name, "wait", f"--for={condition}", f"sealedsecret/{name}", "--timeout=60s")
        return self.values(name)


@pytest.fixture(scope="module")
def place(stack, tmp_path_factory):
    directory = tmp_path_factory.mktemp("sealing")
    stack.kubectl("delete", "namespace", "sealing-tests", "--ignore-not-found")
    yield Place(stack, directory)
    stack.kubectl("delete", "namespace", "sealing-tests", "--wait=false")


@pytest.fixture(scope="module")
def kubeseal(stack, place):
    """A function that runs kubeseal, which is built if images are built from packages."""
    found = shutil.which("kubeseal", path=f"{stack.directory / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if not found:
        pytest.skip("there is no kubeseal: it is made where images are built from packages, else install it")

    def run(*words, text="", check=True):
        where = ["--kubeconfig", stack.kubeconfig, "--controller-namespace", CONTROLLER, "-n", place.name]
        done = subprocess.run([found, *where, *words], input=text, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.returncode

    return run


@pytest.fixture
def file(place, request):
    """The path of a sealed file."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return place.directory / name / "sealed.yaml"


# --- sealing here -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
def test_the_controller_opens_what_is_sealed_here_and_kubeseal_accepts_the_file(place, kubeseal, file, scope):
    name = f"ours-{scope}"
    place.plain(f"from-{scope}", VALUES)
    keys = {key: {"secret": {"name": f"from-{scope}"}} for key in VALUES}
    options = {"scope": scope, "keys": keys, "path": str(file), "labels": {"app": "x"}, "annotations": {"note": "y"}}
    done = place.seal(name, **options)
    assert (done["changed"], done["synced"], done["sealed"]) == (True, True, sorted(VALUES))
    assert place.values(name) == VALUES
    again = place.seal(name, **options)
    assert (again["changed"], again["sealed"]) == (False, [])
    text = file.read_text()
    kubeseal("--validate", text=text)

    # Re-encrypted by kubeseal, it is equal for the module and the cluster, including labels and annotations.
    other = kubeseal("--re-encrypt", "-o", "yaml", text=text)
    assert yaml.safe_load(other)["spec"]["encryptedData"] != yaml.safe_load(text)["spec"]["encryptedData"]
    place.apply(other)
    assert place.unsealed(name) == VALUES
    assert place.secret(name)["metadata"]["labels"] == {"app": "x"}
    assert place.secret(name)["metadata"]["annotations"]["note"] == "y"
    done = place.seal(name, **options)
    assert (done["changed"], done["sealed"]) == (True, []), "only the file follows"
    assert place.seal(name, **options)["changed"] is False


# --- sealing by kubeseal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["yaml", "json"])
@pytest.mark.parametrize("scope", SCOPES)
def test_file_of_kubeseal_is_accepted_unchanged(place, kubeseal, file, scope, output):
    name = f"theirs-{scope}-{output}"
    metadata = {"name": name, "namespace": place.name, "labels": {"app": "x"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded(VALUES)}
    text = kubeseal("--scope", scope, "-o", output, text=json.dumps(secret))
    file.parent.mkdir(parents=True)
    file.write_text(text)
    kubeseal(
        "--scope",
        scope,
        "-o",
        output,
        "--merge-into",
        str(file),
        text=json.dumps({**secret, "data": encoded({"m": b"1"})}),
    )
    text = file.read_text()
    place.apply(text)
    assert place.unsealed(name) == VALUES | {"m": b"1"}

    options = {"scope": scope, "keys": {"one": {"value": "\1"}, "m": {"generate": "hex"}}, "labels": {"app": "x"}}
    done = place.seal(name, path=str(file), **options)
    assert (done["changed"], done["sealed"], done["generated"]) == (False, [], [])
    assert file.read_text() == text
    done = place.seal(name, path=str(file), **{**options, "keys": {"one": {"value": "new"}}})
    assert (done["changed"], done["sealed"]) == (True, ["one"])
    assert place.values(name) == VALUES | {"m": b"1", "one": b"new"}


# --- existing objects -------------------------------------------------------------------------------------------------


def test_existing_secret_is_adopted_completely(place):
    place.plain("alone", {"a": b"1", "b": b"2"}, labels={"app": "x"}, annotations={"note": "y"})
    uid = place.secret("alone")["metadata"]["uid"]
    would = place.seal("alone", check=True, keys={"a": {"generate": "password"}})
    assert (would["changed"], would["taken_over"]) == (True, True)
    assert "ownerReferences" not in place.secret("alone")["metadata"]
    done = place.seal("alone", keys={"a": {"generate": "password"}})
    assert (done["taken_over"], done["generated"], done["sealed"]) == (True, [], ["a", "b"])
    after = place.secret("alone")
    assert after["metadata"]["uid"] == uid
    assert after["metadata"]["ownerReferences"][0]["kind"] == "SealedSecret"
    assert (after["metadata"]["labels"], after["metadata"]["annotations"]) == ({"app": "x"}, {"note": "y"})
    assert place.values("alone") == {"a": b"1", "b": b"2"}
    assert place.seal("alone", keys={"a": {"generate": "password"}})["changed"] is False


def test_secret_that_blocked_the_controller_is_adopted(place, kubeseal):
    place.plain("refused", {"a": b"plain"})
    metadata = {"name": "refused", "namespace": place.name}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded({"a": b"sealed"})}
    place.apply(kubeseal("-o", "yaml", text=json.dumps(secret)))
    done = place.seal("refused")
    assert (done["taken_over"], done["synced"]) == (True, True)
    assert place.values("refused") == {"a": b"plain"}, "what pods read stays"
    assert place.seal("refused")["changed"] is False


def test_manual_edit_is_sealed_or_reverted(place):
    keys = {"given": {"value": "given"}, "made": {"generate": "password"}}
    place.seal("edited", keys=keys)
    before = place.sealed("edited")["spec"]["encryptedData"]
    time.sleep(1.1)  # timestamps have a resolution of a second
    patch = {"data": encoded({"given": b"by hand", "made": b"by hand too"})}
    place.stack.kubectl("-n", place.name, "patch", "secret", "edited", "--type=merge", "-p", json.dumps(patch))
    assert place.seal("edited", check=True, keys=keys)["sealed"] == ["given", "made"]
    done = place.seal("edited", keys=keys)
    assert (done["changed"], done["sealed"], done["generated"]) == (True, ["given", "made"], [])
    assert place.values("edited") == {"given": b"given", "made": b"by hand too"}
    assert place.sealed("edited")["spec"]["encryptedData"].keys() == before.keys()
    assert place.seal("edited", keys=keys)["changed"] is False


def test_missing_key_of_a_secret_is_restored(place):
    keys = {"a": {"generate": "password"}, "b": {"generate": "password"}}
    place.seal("lost", keys=keys)
    values = place.values("lost")
    patch = '[{"op": "remove", "path": "/data/a"}]'
    place.stack.kubectl("-n", place.name, "patch", "secret", "lost", "--type=json", "-p", patch)
    assert place.seal("lost", check=True, keys=keys)["changed"] is True
    done = place.seal("lost", keys=keys)
    assert (done["changed"], done["generated"]) == (True, [])
    assert place.values("lost") == values
    place.stack.kubectl("-n", place.name, "delete", "secret", "lost")
    assert place.seal("lost", keys=keys)["generated"] == []
    assert place.values("lost") == values
    assert place.seal("lost", keys=keys)["changed"] is False


def test_file_is_applied_if_the_cluster_has_neither_object(place, file):
    keys = {"a": {"generate": "password"}}
    place.seal("filed", keys=keys, path=str(file))
    values, text = place.values("filed"), file.read_text()
    place.stack.kubectl("-n", place.name, "delete", "sealedsecret", "filed", "--cascade=foreground")
    assert place.seal("filed", check=True, keys=keys, path=str(file))["changed"] is True
    done = place.seal("filed", keys=keys, path=str(file))
    assert (done["changed"], done["generated"], done["sealed"]) == (True, [], [])
    assert (place.values("filed"), file.read_text()) == (values, text)

    # Renamed in an editor, its strict values cannot be opened anywhere.
    file.write_text(text.replace("name: filed", "name: moved"))
    failed = place.seal("moved", keys=keys, path=str(file))
    assert "cannot be opened by the Sealed Secrets controller" in failed["msg"]
    assert place.stack.kubectl("-n", place.name, "get", "sealedsecret", "moved", "--ignore-not-found") == ""


def test_scope_labels_and_type_of_an_existing_secret(place):
    keys = {"a": {"generate": "password"}}
    place.seal("changes", keys=keys, labels={"app": "x", "team": "a"})
    values = place.values("changes")
    for scope in ("namespace-wide", "cluster-wide", "strict"):
        done = place.seal("changes", keys=keys, scope=scope)
        assert (done["changed"], done["sealed"], done["generated"]) == (True, ["a"], [])
        assert place.values("changes") == values
        assert place.seal("changes", keys=keys, scope=scope)["changed"] is False
    done = place.seal("changes", keys=keys, labels={"team": "b"})
    assert (done["changed"], done["sealed"]) == (True, [])
    assert place.secret("changes")["metadata"]["labels"] == {"app": "x", "team": "b"}
    failed = place.seal("changes", keys=keys, type="kubernetes.io/tls")
    assert "is of type Opaque and must be kubernetes.io/tls, which cannot be changed" in failed["msg"]
    assert place.seal("changes", keys=keys, immutable=True)["changed"] is True
    assert place.secret("changes")["immutable"] is True
    assert place.seal("changes", keys=keys, immutable=True)["changed"] is False
    failed = place.seal("changes", keys={"a": {"value": "new"}})
    assert "is immutable, so that its key a cannot be written" in failed["msg"]
    assert place.values("changes") == values


def test_absent_removes_both_or_keeps_the_secret(place, file):
    place.seal("gone", keys={"a": {"generate": "password"}}, path=str(file))
    values = place.values("gone")
    assert place.seal("gone", check=True, state="absent", path=str(file))["changed"] is True
    assert place.seal("gone", state="absent", keep_secret=True, path=str(file))["changed"] is True
    assert not file.exists()
    assert place.values("gone") == values
    assert "ownerReferences" not in place.secret("gone")["metadata"]
    place.seal("gone")
    assert place.seal("gone", state="absent")["changed"] is True
    assert place.stack.kubectl("-n", place.name, "get", "secret,sealedsecret", "gone", "--ignore-not-found") == ""
    assert place.seal("gone", state="absent")["changed"] is False


# --- failures ---------------------------------------------------------------------------------------------------------


def test_wrong_input_fails_without_changes(place, file):
    keys = {"a": {"value": "planted-value-0123456789"}}
    other = (
        stacks.REPOSITORY / "tests" / "unit" / "plugins" / "module_utils" / "sealing" / "fixtures" / "certificate.pem"
    )
    for options, words in (
        ({"namespace": "there-is-none-such"}, "namespace is 'there-is-none-such', which is not there"),
        ({"controller_namespace": "default"}, "the Sealed Secrets controller default/sealed-secrets-controller is not"),
        ({"certificate": str(other)}, "certificate is not one of the Sealed Secrets controller"),
    ):
        given = {"name": "wrong", "namespace": place.name, "keys": keys, "path": str(file), **options}
        failed = place.module("sealed_secret", **given)
        assert words in failed["msg"]
        assert "\n" not in failed["msg"]
        assert "planted-value" not in json.dumps(failed)
        assert not file.exists()
    assert place.stack.kubectl("-n", place.name, "get", "secret,sealedsecret", "wrong", "--ignore-not-found") == ""


def test_refusal_by_the_controller_is_reported(place):
    place.seal("origin", keys={"a": {"value": "1"}})
    sealed = place.sealed("origin")
    sealed["metadata"] = {"name": "refuses", "namespace": place.name}
    del sealed["status"]
    place.apply(sealed)
    failed = place.seal("refuses", keys={"b": {"value": "1"}})
    assert (
        "SealedSecret sealing-tests/refuses is not unsealed: no sealing key of this cluster opens it" in failed["msg"]
    )
    # With all values supplied, it is sealed for its name.
    done = place.seal("refuses", keys={"a": {"value": "1"}})
    assert (done["sealed"], done["synced"], place.values("refuses")) == (["a"], True, {"a": b"1"})


# --- renewal ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def renew(place):
    """A function that gives the controller a newer sealing key, waits until it is used, and returns it.

    The key is kept, since the stack's own SealedSecrets may be sealed with it from now on.
    """

    def run():
        key = rsa.generate_private_key(65537, 4096)
        subject = x509.Name([])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        shown = made.public_bytes(serialization.Encoding.PEM)
        name = f"sealed-secrets-key-tests-{now:%Y%m%d%H%M%S}"
        metadata = {"name": name, "namespace": CONTROLLER, "labels": {KEYS: "active"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata}
        data = encoded({"tls.key": pem, "tls.crt": shown})
        place.stack.kubectl("create", "-f", "-", text=json.dumps({**secret, "data": data}))
        # The controller reads keys when it starts.
        controller = ("-n", CONTROLLER, "deployment/sealed-secrets-controller")
        place.stack.kubectl("-n", CONTROLLER, "delete", "pod", "-l", "app.kubernetes.io/name=sealed-secrets")
        place.stack.kubectl("rollout", "status", *controller, "--timeout=120s")
        path = f"/api/v1/namespaces/{CONTROLLER}/services/http:sealed-secrets-controller:http/proxy/v1/cert.pem"
        stacks.wait_until(
            lambda: place.stack.kubectl("get", "--raw", path, check=False).strip() == shown.decode().strip(),
            60,
            "the new certificate",
        )
        return stacks.Hidden(pem.decode())

    return run


def test_files_are_resealed_after_a_renewal(place, kubeseal, renew):
    directory = place.directory / "renewal"
    keys = {"a": {"value": "1"}, "b": {"generate": "password"}}
    for scope in SCOPES:
        place.seal(f"renewal-{scope}", keys=keys, scope=scope, path=str(directory / scope / "sealed.yaml"))
    metadata = {"name": "renewal-kubeseal", "namespace": place.name}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded({"a": b"1", "b": b"2"})}
    (directory / "kubeseal.json").write_text(kubeseal("-o", "json", text=json.dumps(secret)))
    commented = directory / "strict" / "sealed.yaml"
    commented.write_text("# mine\n" + commented.read_text() + "# the end\n")
    (directory / "kustomization.yaml").write_text("resources: [strict/sealed.yaml]\n")
    values = {scope: place.values(f"renewal-{scope}") for scope in SCOPES}
    first = place.module("sealed_files", directory=str(directory))
    assert len(first["resealed"]) == 4
    key = renew()

    place.seal("renewal-after", keys=keys, path=str(directory / "after.yaml"))
    after = load((directory / "after.yaml").read_text(), "it")
    for text in after["spec"]["encryptedData"].values():
        unseal([key.encode()], text, label("strict", place.name, "renewal-after"))  # with the newest key

    before = {each: each.read_text() for each in directory.rglob("*.*") if each.is_file()}
    # A renamed file cannot be opened; the others are resealed nevertheless.
    moved = directory / "moved.yaml"
    moved.write_text(commented.read_text().replace("renewal-strict", "renewal-moved"))
    would = place.module("sealed_files", check=True, directory=str(directory))
    assert f"the file {moved} cannot be opened" in would["msg"]
    assert {each: each.read_text() for each in before} == before
    done = place.module("sealed_files", directory=str(directory))
    assert "1 file is not sealed again" in done["msg"]
    assert (sorted(done["resealed"]), sorted(done["applied"])) == (sorted(would["resealed"]), sorted(would["applied"]))
    assert len(done["resealed"]) == 5
    assert sorted(done["applied"]) == sorted(f"{place.name}/renewal-{each}" for each in (*SCOPES, "after"))
    assert done["rewritten"] == []
    moved.unlink()

    assert commented.read_text().startswith("# mine\n---\n")
    assert commented.read_text().endswith("# the end\n")
    for path in directory.rglob("*.*"):
        if not path.is_file() or path.name in (".resealed", "kustomization.yaml"):
            continue
        sealed = load(path.read_text(), path.name)
        name, scope = sealed["metadata"]["name"], scope_of(sealed)
        # With the new key alone: the old one is no longer needed.
        opened = {
            each: unseal([key.encode()], text, label(scope, place.name, name))
            for each, text in sealed["spec"]["encryptedData"].items()
        }
        assert opened["a"] == b"1"
        old = load(before[path], "it")
        assert {**sealed, "spec": {**sealed["spec"], "encryptedData": old["spec"]["encryptedData"]}} == old
        if path.suffix == ".yaml":
            assert place.sealed(name)["spec"]["encryptedData"] == sealed["spec"]["encryptedData"]
            assert place.unsealed(name) == opened
    assert {scope: place.values(f"renewal-{scope}") for scope in SCOPES} == values

    again = place.module("sealed_files", directory=str(directory))
    assert (again["changed"], again["resealed"], len(again["unchanged"])) == (False, [], 5)
    for scope in SCOPES:
        path = directory / scope / "sealed.yaml"
        assert place.seal(f"renewal-{scope}", keys=keys, scope=scope, path=str(path))["changed"] is False


def test_interrupted_reseal_is_resumed(place):
    directory = place.directory / "interrupted"
    path = directory / "sealed.yaml"
    place.seal("interrupted", keys={"a": {"value": "1"}}, path=str(path))
    place.module("sealed_files", directory=str(directory), apply=False)
    live = place.sealed("interrupted")["spec"]["encryptedData"]
    assert load(path.read_text(), "it")["spec"]["encryptedData"] != live
    index = json.loads((directory / ".resealed").read_text())
    index["sealed.yaml"]["replaces"] = [hash_of(live)]
    (directory / ".resealed").write_text(json.dumps(index))
    done = place.module("sealed_files", directory=str(directory))
    assert (done["resealed"], done["applied"]) == ([], [f"{place.name}/interrupted"])
    assert load(path.read_text(), "it")["spec"]["encryptedData"] == place.sealed("interrupted")["spec"]["encryptedData"]
    assert place.unsealed("interrupted") == {"a": b"1"}
    assert place.module("sealed_files", directory=str(directory))["changed"] is False
