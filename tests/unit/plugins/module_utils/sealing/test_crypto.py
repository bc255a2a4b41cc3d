# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of sealing: against what the real kubeseal 0.40 made once, and against kubeseal itself.

The files in sealed/ were made by 'kubeseal --cert certificate.pem --scope SCOPE' and 'kubeseal --raw' for the Secret
reports/login; key.pem is a key of the tests and of nothing else.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import shutil
import string
import subprocess

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing import files as sealed_files
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import (
    SCOPES,
    Certificate,
    SealingError,
    bare,
    digest,
    dump,
    label,
    load,
    manifest,
    scope_of,
    seal,
    unseal,
    without_scope,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

KNOWN = pathlib.Path(__file__).parent / "fixtures"
KEY = (KNOWN / "key.pem").read_bytes()
CERTIFICATE = Certificate.from_pem((KNOWN / "certificate.pem").read_text())
VALUES = {"password": "known 'answer' ünïcode\n".encode(), "binary": bytes(range(256)), "empty": b""}
REPOSITORY = pathlib.Path(__file__).resolve().parents[5]
KINDS = {
    "empty": b"",
    "one byte": b"\0",
    "newline": b"line\n",
    "unicode": "ünï ☃ {{ x }}".encode(),
    "binary": bytes(range(256)) * 3,
    "large": os.urandom(100 * 1024),
}


def certificate_pem(key, start=-1, end=1):
    """A certificate for a key, valid from some days to some days from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + datetime.timedelta(days=start))
        .not_valid_after(now + datetime.timedelta(days=end))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


# --- known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
def test_opens_what_kubeseal_sealed(scope):
    sealed = load((KNOWN / f"{scope}.kubeseal").read_text(), "it")
    assert scope_of(sealed) == scope
    bound_to = label(scope, "reports", "login")
    assert {key: unseal([KEY], text, bound_to) for key, text in sealed["spec"]["encryptedData"].items()} == VALUES


def test_opens_a_raw_value():
    assert unseal([KEY], (KNOWN / "raw.kubeseal").read_text(), label("strict", "reports", "login")) == b"raw value"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_value_is_bound_to_its_place(scope):
    text = seal(CERTIFICATE, b"value", label(scope, "reports", "login"))
    places = {"same": ("reports", "login"), "renamed": ("reports", "other"), "moved": ("elsewhere", "login")}
    opened = set()
    for what, (namespace, name) in places.items():
        try:
            assert unseal([KEY], text, label(scope, namespace, name)) == b"value"
            opened.add(what)
        except SealingError:
            continue
    assert opened == {"strict": {"same"}, "namespace-wide": {"same", "renamed"}, "cluster-wide": set(places)}[scope]


def test_manifest_is_that_of_kubeseal_apart_from_its_own_labels():
    for scope in SCOPES:
        theirs = bare(load((KNOWN / f"{scope}.kubeseal").read_text(), "it"))
        ours = bare(
            manifest("reports", "login", theirs["spec"]["encryptedData"], labels={"app": "reports"}, scope=scope)
        )
        assert ours["metadata"].pop("labels") == {"app": "reports"}
        assert ours == theirs


def test_dump_and_load_give_the_same():
    sealed = manifest("reports", "login", {"a": "x"}, annotations={"when": "2026-01-01"}, scope="cluster-wide")
    text = dump(sealed)
    assert bare(load(text, "it")) == bare(sealed)
    assert dump(load(text, "it")) == text
    assert load(text.replace("'2026-01-01'", "2026-01-01"), "it") == load(text, "it"), "as Kubernetes reads it"


def test_dump_is_as_written_by_hand():
    sealed = manifest("reports", "login", {"y": "AgX", "name": "AgY"}, labels={"app": "reports"})
    assert (
        dump(sealed)
        == """---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  labels:
    app: reports
  name: login
  namespace: reports
spec:
  encryptedData:
    name: AgY
    "y": AgX
  template:
    metadata:
      labels:
        app: reports
      name: login
      namespace: reports
    type: Opaque
"""
    )


def test_without_scope_keeps_what_a_user_set():
    given = {"sealedsecrets.bitnami.com/cluster-wide": "true", "note": "x"}
    assert without_scope(given | {"kubectl.kubernetes.io/last-applied-configuration": "{}"}) == {"note": "x"}


# --- kubeseal itself --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kubeseal():
    """The kubeseal that the images' build makes, or the machine's."""
    found = shutil.which("kubeseal", path=f"{REPOSITORY / 'build' / 'test' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if not found:
        pytest.skip("there is no kubeseal: it is made where images are built from packages, else install it")

    def run(*words, text):
        done = subprocess.run([found, *words], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", SCOPES)
def test_kubeseal_opens_what_is_sealed_here(kubeseal, scope, kind):
    encrypted = {"key": seal(CERTIFICATE, KINDS[kind], label(scope, "reports", "login"))}
    sealed = dump(manifest("reports", "login", encrypted, scope=scope, type="Opaque", labels={"a": "b"}))
    opened = json.loads(
        kubeseal("--recovery-unseal", "--recovery-private-key", str(KNOWN / "key.pem"), "-o", "json", text=sealed)
    )
    assert opened["metadata"]["labels"] == {"a": "b"}
    # A field without bytes is left out.
    given = opened["data"]["key"] or ""
    assert sealed_bytes(given) == KINDS[kind]


@pytest.mark.parametrize(
    "text", ["y", "N", "yes", "true", "null", "~", "1", "0x1F", "0o7", "1e3", "1_0", "1:20", ".5", "2026-01-01"]
)
def test_a_text_that_looks_like_something_else_stays_a_text(kubeseal, text):
    name = text if re.fullmatch(r"[-._a-zA-Z0-9]+", text) else "x"
    encrypted = {name: seal(CERTIFICATE, b"1", b"reports/login")}
    sealed = dump(manifest("reports", "login", encrypted, annotations={"note": text}))
    opened = json.loads(
        kubeseal("--recovery-unseal", "--recovery-private-key", str(KNOWN / "key.pem"), "-o", "json", text=sealed)
    )
    assert opened["metadata"]["annotations"] == {"note": text}
    assert list(opened["data"]) == [name]
    assert load(sealed, "it")["metadata"]["annotations"] == {"note": text}


def sealed_bytes(text):
    """The bytes of a value in a Secret."""
    return yaml.safe_load(f"!!binary '{text}'")


@pytest.mark.parametrize("output", ["yaml", "json"])
@pytest.mark.parametrize("scope", SCOPES)
def test_what_kubeseal_seals_and_merges_is_opened_here(kubeseal, tmp_path, scope, output):
    def secret(**values):
        data = {
            key: yaml.safe_dump(value).split("|")[-1].replace("\n", "").replace(" ", "")
            for key, value in values.items()
        }
        return json.dumps(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "reports"}, "data": data}
        )

    common = ("--cert", str(KNOWN / "certificate.pem"), "--scope", scope)
    path = tmp_path / "sealed"
    path.write_text(kubeseal(*common, "-o", output, text=secret(binary=KINDS["binary"], large=KINDS["large"])))
    kubeseal(*common, "-o", output, "--merge-into", str(path), text=secret(unicode=KINDS["unicode"]))
    sealed = load(path.read_text(), "it")
    bound_to = label(scope_of(sealed), "reports", "login")
    assert scope_of(sealed) == scope
    assert {key: unseal([KEY], text, bound_to) for key, text in sealed["spec"]["encryptedData"].items()} == {
        key: KINDS[key] for key in ("binary", "large", "unicode")
    }
    raw = ("--raw", "--name", "login", "--namespace", "reports")
    assert unseal([KEY], kubeseal(*common, *raw, text="raw\n"), bound_to) == b"raw\n"


def test_kubeseal_merges_into_what_is_sealed_here(kubeseal, tmp_path):
    path = tmp_path / "sealed.yaml"
    path.write_text(dump(manifest("reports", "login", {"a": seal(CERTIFICATE, b"1", b"reports/login")})))
    given = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "reports"}}
    text = json.dumps({**given, "stringData": {"b": "2"}})
    kubeseal("--cert", str(KNOWN / "certificate.pem"), "-o", "yaml", "--merge-into", str(path), text=text)
    encrypted = load(path.read_text(), "it")["spec"]["encryptedData"]
    assert {key: unseal([KEY], each, b"reports/login") for key, each in encrypted.items()} == {"a": b"1", "b": b"2"}


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "words"), [((-3, -1), "expired on 20"), ((1, 3), "is not valid before 20"), ((-1, 1), "")]
)
def test_certificate_that_is_not_valid_now(days, words):
    certificate = Certificate.from_pem(certificate_pem(rsa.generate_private_key(65537, 2048), *days))
    if not words:
        certificate.check()
        return
    with pytest.raises(SealingError, match=words):
        certificate.check()


def test_certificate_of_another_kind():
    with pytest.raises(SealingError, match="has no RSA key"):
        Certificate.from_pem(certificate_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(SealingError, match="is no certificate"):
        Certificate.from_pem(KEY.decode())


def test_scope_that_there_is_none():
    with pytest.raises(SealingError, match="the scope is 'everywhere', and must be one of strict, namespace-wide"):
        label("everywhere", "a", "b")


def test_digest_tells_values_scope_and_place_apart():
    arguments = [
        (b"k" * 16, {"a": b"1"}, "strict", "ns", "name"),
        (b"l" * 16, {"a": b"1"}, "strict", "ns", "name"),
        (b"k" * 16, {"a": b"2"}, "strict", "ns", "name"),
        (b"k" * 16, {"b": b"1"}, "strict", "ns", "name"),
        (b"k" * 16, {"a": b"1"}, "cluster-wide", "ns", "name"),
        (b"k" * 16, {"a": b"1"}, "strict", "other", "name"),
    ]
    assert len({digest(*each) for each in arguments}) == len(arguments)
    assert digest(*arguments[0]) == digest(*arguments[0])


ANYTHING = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLANTED = "planted-0123456789abcdef"


def sentence(error):
    """See that it is one, and that it shows nothing of what was given."""
    text = str(error.value)
    assert "\n" not in text
    assert 10 < len(text) < 300
    assert PLANTED not in text


@ANYTHING
@given(st.one_of(st.text(), st.binary().map(lambda each: each.decode("utf-8", "surrogateescape"))))
@example("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
@example((KNOWN / "certificate.pem").read_text()[:-200])
@example("\ud800")
def test_any_text_as_a_certificate(text):
    with pytest.raises(SealingError) as error:
        Certificate.from_pem(PLANTED + text)
    sentence(error)


@ANYTHING
@given(st.one_of(st.text(), st.text(string.ascii_letters + string.digits + "+/=\n"), st.binary().map(str)))
@example("AQA=")
@example((KNOWN / "raw.kubeseal").read_text()[:-8])
@example("AQAA" * 200)
def test_any_text_as_a_sealed_value(text):
    with pytest.raises(SealingError) as error:
        unseal([KEY], text, b"reports/login")
    sentence(error)
    with pytest.raises(SealingError) as error:
        unseal([PLANTED.encode()], (KNOWN / "raw.kubeseal").read_text(), b"")
    sentence(error)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["metadata", "spec", "template", "encryptedData", "annotations", "labels", "name", "x"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@ANYTHING
@given(
    st.one_of(
        st.text(),
        JSON.map(json.dumps),
        st.fixed_dictionaries({}, optional={"metadata": JSON, "spec": JSON}).map(
            lambda each: json.dumps({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", **each})
        ),
    )
)
@example("!!timestamp x")
@example("!!int ''")
@example("!!bool x")
@example("? {a: b}\n: c")
@example("a: &a [*a]")
@example("2026-99-99")
@example("1" * 5000)
@example("[" * 5000)
@example(
    "{kind: SealedSecret, apiVersion: bitnami.com/v1alpha1, metadata: {name: a}, "
    "spec: {encryptedData: {a: !!binary YQ==}}}"
)
@example("\0")
def test_any_text_as_a_sealed_file(text):
    try:
        sealed = load(text, "the file x")
    except SealingError:
        with pytest.raises(SealingError, match=r"\Athe file x [^\n]*\Z"):
            load(text, "the file x")
        return
    assert load(dump(sealed), "it") == bare(sealed)
    assert scope_of(sealed) in SCOPES


# --- what is kept beside files ----------------------------------------------------------------------------------------


def test_digests_hold_for_their_value_their_sealed_text_and_their_key(tmp_path):
    path = str(tmp_path / "sealed.yaml")
    place = ("strict", "reports", "login")
    digests = sealed_files.Digests(path, b"k" * 16, *place)
    assert not digests.holds("a", b"1", "x")
    sealed_files.write(digests.path, digests.wanted({"a": b"1"}, {"a": "x", "b": "y"}))
    again = sealed_files.Digests(path, b"k" * 16, *place)
    assert again.holds("a", b"1", "x")
    assert not again.holds("a", b"2", "x")
    assert not again.holds("a", b"1", "another writer's")
    assert not again.holds("b", b"1", "y")
    assert again.wanted({"a": b"1"}, {"a": "x", "b": "y"}) is None
    assert not sealed_files.Digests(path, b"l" * 16, *place).holds("a", b"1", "x")
    carried = sealed_files.carry_over(path, {"a": "x"}, {"a": "z"})
    sealed_files.write(digests.path, carried)
    assert sealed_files.Digests(path, b"k" * 16, *place).holds("a", b"1", "z")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1}', '{"a": {"sealed": 1}}', '{"a": {"sealed": "", "value": "\\ud800"}}']
)
def test_digests_of_no_use_count_for_nothing(tmp_path, text):
    path = tmp_path / "sealed.yaml"
    (tmp_path / "sealed.yaml.digest").write_text(text)
    assert not sealed_files.Digests(str(path), b"k" * 16, "strict", "a", "b").holds("a", b"1", "x")
    assert sealed_files.carry_over(str(path), {"a": "x"}, {"a": "z"}) is None


def test_a_file_is_written_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "made" / "sealed.yaml"
    sealed_files.write(str(path), "one")
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o600)
    sealed_files.write(str(path), "two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o600)
    assert [each.name for each in path.parent.iterdir()] == ["sealed.yaml"]
    with pytest.raises(SealingError, match="cannot be written"):
        sealed_files.write(str(path / "below"), "x")
