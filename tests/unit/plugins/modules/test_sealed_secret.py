# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module sealed_secret without a controller.

With one it is tested by molecule/default/tests/test_sealing.py.
"""

from __future__ import annotations

import datetime
import json
import pathlib
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import edited
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import SealingError, label, load, unseal
from ansible_collections.mlops.mlflow.plugins.modules import sealed_secret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

KNOWN = pathlib.Path(__file__).parents[1] / "module_utils" / "sealing" / "fixtures"
CERTIFICATE = str(KNOWN / "certificate.pem")
KEY = (KNOWN / "key.pem").read_bytes()
PLANTED = "pl4nted 'quo\"tes' {{ jinja }} $HOME \\back\nline ünïcode % & ; # é"
PROXY = "/api/v1/namespaces/sealed-secrets/services/http:sealed-secrets-controller:http/proxy"
SEALED = "/apis/bitnami.com/v1alpha1/namespaces/reports/sealedsecrets"


@pytest.fixture
def attempt(run, tmp_path, monkeypatch):
    """A function that runs the module without a cluster, with a file, and gives the result."""
    path = tmp_path / "sealed" / "reports" / "login.yaml"
    monkeypatch.setenv("DIGEST_KEY", "0123456789abcdef")
    given = {"name": "login", "namespace": "reports", "certificate": CERTIFICATE, "apply": False, "path": str(path)}

    def runner(**options: Any) -> dict[str, Any]:
        return run("sealed_secret", **(given | options))

    runner.path = path  # type: ignore[attr-defined]
    return runner


@pytest.fixture
def offline(attempt):
    """A function that seals without a cluster into a file, and gives the result, the file and its values."""
    path = attempt.path

    def seal(scope: str = "strict", **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        result = attempt(scope=scope, **({"digest_key": {"env": "DIGEST_KEY"}} | options))
        if not path.exists():
            return result, {}, {}
        sealed = load(path.read_text(), "it")
        bound_to = label(scope, "reports", "login")
        opened = {}
        for key, text in sealed["spec"]["encryptedData"].items():
            try:
                opened[key] = unseal([KEY], text, bound_to)
            except SealingError:
                opened[key] = b"(sealed for another place)"
        return result, sealed, opened

    seal.path = path  # type: ignore[attr-defined]
    return seal


KEYS = {"username": {"value": "reports"}, "password": {"generate": "password"}}


# --- without a cluster ------------------------------------------------------------------------------------------------


def test_seals_into_a_file_without_a_cluster(cluster, offline):
    result, sealed, values = offline(keys=KEYS, labels={"app": "reports"}, annotations={"note": 1})
    assert cluster.requests == []
    assert result["changed"] is True
    assert (result["sealed"], result["generated"]) == (["password", "username"], ["password"])
    assert values["username"] == b"reports"
    assert len(values["password"]) == 32
    assert sealed["spec"]["template"]["metadata"]["labels"] == {"app": "reports"}
    assert sealed["spec"]["template"]["metadata"]["annotations"] == {"note": "1"}
    assert offline.path.stat().st_mode & 0o777 == 0o644
    assert values["password"].decode() not in result["_output"]

    before = {each: each.read_bytes() for each in offline.path.parent.iterdir()}
    result, _unused, _unused = offline(keys=KEYS, labels={"app": "reports"})
    assert (result["changed"], result["sealed"], result["generated"], result["certificate"]) == (False, [], [], "")
    assert {each: each.read_bytes() for each in offline.path.parent.iterdir()} == before


def test_only_the_changed_key_is_sealed_again(offline):
    _unused, first, values = offline(keys=KEYS)
    result, second, again = offline(keys=KEYS | {"username": {"value": "other"}})
    assert (result["changed"], result["sealed"]) == (True, ["username"])
    assert again == {"username": b"other", "password": values["password"]}
    assert first["spec"]["encryptedData"]["password"] == second["spec"]["encryptedData"]["password"]
    assert "-key username\n" not in result["diff"][0]["before"]
    assert "key username (sealed now)\n" in result["diff"][0]["after"]
    assert "key password\n" in result["diff"][0]["after"]


def test_keys_labels_and_annotations_that_are_not_named_stay(offline):
    offline(keys=KEYS, labels={"app": "reports"}, annotations={"note": "x"})
    result, sealed, values = offline(keys={"extra": {"value": "1"}}, labels={"team": "ml"})
    assert (result["key_names"], result["sealed"]) == (["extra", "password", "username"], ["extra"])
    assert sealed["spec"]["template"]["metadata"]["labels"] == {"app": "reports", "team": "ml"}
    assert values["username"] == b"reports"


def test_check_mode_writes_nothing_and_tells_the_same(offline, run):
    result, sealed, _unused = offline(keys=KEYS, check=True)
    assert (result["changed"], sealed) == (True, {})
    assert "key password (sealed now)" in result["diff"][0]["after"]
    assert not offline.path.parent.exists()
    offline(keys=KEYS)
    text = offline.path.read_text()
    result, _unused, _unused = offline(keys=KEYS | {"username": {"value": "other"}}, check=True)
    assert (result["changed"], result["sealed"], offline.path.read_text()) == (True, ["username"], text)


def test_without_a_digest_key_it_seals_again_and_warns(offline):
    _unused, first, _unused = offline(keys=KEYS, digest_key=None)
    result, second, _unused = offline(keys=KEYS, digest_key=None)
    assert result["sealed"] == ["username"], "the generated one stays"
    assert "digest_key is not set" in result["_output"]
    assert first["spec"]["encryptedData"]["password"] == second["spec"]["encryptedData"]["password"]
    assert not offline.path.with_name("login.yaml.digest").exists()


def test_a_sealed_value_of_another_writer_is_not_trusted(offline):
    _unused, sealed, _unused = offline(keys=KEYS)
    old = sealed["spec"]["encryptedData"]["username"]
    offline(keys=KEYS | {"username": {"value": "other"}})
    text = offline.path.read_text()
    offline.path.write_text(text.replace(load(text, "it")["spec"]["encryptedData"]["username"], old))
    result, _unused, values = offline(keys=KEYS | {"username": {"value": "other"}})
    assert result["sealed"] == ["username"]
    assert values["username"] == b"other"


def test_another_scope_needs_all_values(offline):
    offline(keys=KEYS)
    result, _unused, _unused = offline("namespace-wide", keys=KEYS)
    assert "keys.password was generated for the scope strict" in result["msg"]
    result, _unused, _unused = offline("namespace-wide", keys={"username": {"value": "reports"}})
    assert "cannot be changed without the value of its key password" in result["msg"]
    given = {key: {"value": key} for key in KEYS}
    result, sealed, values = offline("namespace-wide", keys=given)
    assert result["sealed"] == ["password", "username"]
    assert values == {"password": b"password", "username": b"username"}
    assert sealed["metadata"]["annotations"] == {"sealedsecrets.bitnami.com/namespace-wide": "true"}
    result, sealed, _unused = offline("strict", keys=given)
    assert "annotations" not in sealed["metadata"]
    assert offline("strict", keys=given)[0]["changed"] is False


def test_a_file_in_other_words_stays_as_it_is(offline):
    offline(keys=KEYS)
    text = json.dumps(load(offline.path.read_text(), "it"))
    offline.path.write_text(text)
    assert offline(keys=KEYS)[0]["changed"] is False
    assert offline.path.read_text() == text


def test_absent_removes_the_files(offline, run):
    offline(keys=KEYS)
    options = {"name": "login", "namespace": "reports", "state": "absent", "apply": False, "path": str(offline.path)}
    assert run("sealed_secret", check=True, **options)["changed"] is True
    assert offline.path.exists()
    assert run("sealed_secret", **options)["changed"] is True
    assert list(offline.path.parent.iterdir()) == []
    assert run("sealed_secret", **options)["changed"] is False


@pytest.mark.parametrize("kind", ["env", "file", "value"])
def test_values_are_in_no_output(offline, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("PLANTED", PLANTED)
    (tmp_path / "planted").write_text(PLANTED + "\n")
    source = {"env": "PLANTED", "file": str(tmp_path / "planted"), "value": PLANTED}[kind]
    result, _unused, values = offline(keys={"password": {kind: source}}, digest_key={"value": PLANTED})
    assert values == {"password": PLANTED.encode()}
    assert PLANTED not in result["_output"]
    assert json.dumps(PLANTED)[1:-1] not in result["_output"]
    failed, _unused, _unused = offline(keys={"password": {kind: source}, "b": {}}, digest_key={"value": PLANTED})
    assert failed["failed"] is True
    assert json.dumps(PLANTED)[1:-1] not in failed["_output"]


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "Not_A_Name"}, "name is 'Not_A_Name': a Secret's name has lower-case letters"),
        ({"namespace": "a.b"}, "namespace is 'a.b': a namespace's name has up to 63"),
        ({"scope": "everywhere"}, "value of scope must be one of: strict, namespace-wide, cluster-wide"),
        ({"keys": {"a/b": {"value": "x"}}}, "'a/b' is no name of a key"),
        ({"keys": {"a": {}}}, "keys.a must be a dictionary with exactly one of env, file, value, secret, generate"),
        (
            {"keys": {"a": {"value": "x", "env": "Y"}}},
            "exactly one of env, file, value, secret, generate, not env, value",
        ),
        ({"keys": {"a": "planted-value-0123456789"}}, "keys.a must be a dictionary"),
        ({"keys": {"a": {"value": "x", "length": 3}}}, "keys.a: length needs generate"),
        (
            {"keys": {"a": {"generate": "rot13"}}},
            "keys.a: generate is 'rot13', and must be one of password, hex, fernet",
        ),
        ({"keys": {"a": {"generate": "hex", "length": 3}}}, "keys.a: length is 3, and must be from 8 to 1024"),
        ({"keys": {"a": {"env": "NOT_SET_HERE"}}}, "keys.a: the environment variable NOT_SET_HERE is not set"),
        ({"keys": {"a": {"file": "/nowhere/x"}}}, "keys.a: the file /nowhere/x cannot be read"),
        ({"keys": {"a": {"secret": {"key": "x"}}}}, "keys.a.secret must be a dictionary with name"),
        ({"keys": {"a": {"secret": {"name": "b"}}}}, "keys.a.secret needs a cluster"),
        ({"keys": {}}, "keys names none for reports/login"),
        ({"path": None}, "apply is false and path is not set"),
        ({"path": "/tmp"}, "path is '/tmp': a directory is there"),
        (
            {"certificate": "/nowhere/c.pem"},
            "certificate '/nowhere/c.pem': there is no such file, and it is no PEM text",
        ),
        ({"certificate": "-----BEGIN CERTIFICATE-----\nx"}, "certificate is no certificate: a PEM text that begins"),
        ({"certificate": str(KNOWN / "key.pem")}, "key.pem' is no certificate"),
        ({"digest_key": {"value": "short"}}, "digest_key has 5 bytes: at least 16 are needed"),
        ({"annotations": {"sealedsecrets.bitnami.com/managed": "true"}}, "is set by this module"),
        ({"labels": {"a": {"b": "c"}}}, "labels.a must be a text"),
        ({"wait_timeout": 0}, "wait_timeout is 0: seconds, at least 1"),
    ],
)
def test_wrong_options_are_a_sentence_and_change_nothing(cluster, attempt, options, words):
    result = attempt(**({"keys": {"a": {"value": "x"}}} | options))
    assert result["failed"] is True
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert "planted-value" not in result["_output"]
    assert not attempt.path.exists()
    assert cluster.requests == []


@pytest.mark.parametrize(("days", "words"), [((-3, -1), "expired on 20"), ((1, 3), "is not valid before 20")])
@pytest.mark.parametrize("form", ["file", "text"])
def test_a_certificate_that_is_not_valid_now(attempt, tmp_path, form, days, words):
    key = rsa.generate_private_key(65537, 2048)
    start, end = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=each) for each in days)
    subject = x509.Name([])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, end)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (tmp_path / "certificate.pem").write_bytes(made)
    result = attempt(keys=KEYS, certificate=str(tmp_path / "certificate.pem") if form == "file" else made.decode())
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert not attempt.path.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: ConfigMap\n", "does not hold one SealedSecret, and nothing else"),
        ("{", "is no YAML"),
        ("---\nkind: SealedSecret\n---\nkind: SealedSecret\n", "does not hold one SealedSecret"),
        ("kind: SealedSecret\n", "is no SealedSecret of bitnami.com/v1alpha1 with a name and encryptedData"),
    ],
)
def test_a_file_that_holds_something_else_stays(attempt, text, words):
    attempt.path.parent.mkdir(parents=True)
    attempt.path.write_text(text)
    assert words in attempt(keys=KEYS)["msg"]
    assert attempt.path.read_text() == text


def test_a_file_of_another_secret_stays(offline, attempt):
    offline(keys=KEYS)
    text = offline.path.read_text()
    result = attempt(name="other", keys=KEYS)
    assert f"the file {offline.path} holds SealedSecret reports/login, and not reports/other" in result["msg"]
    assert offline.path.read_text() == text


ONLINE = {"name": "login", "namespace": "reports", "keys": {"a": {"value": "value-in-no-output-0123"}}}


def answers(cluster):
    """Give the fake cluster a controller with a certificate, and no SealedSecrets."""
    cluster.namespace("reports")
    cluster.answers[f"GET {PROXY}/v1/cert.pem"] = (200, pathlib.Path(CERTIFICATE).read_bytes())
    cluster.answers[f"GET {SEALED}/login"] = cluster.status(404, "NotFound", "not found")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({}, ""),
        (
            {f"GET {PROXY}/v1/cert.pem": (503, {"kind": "Status", "reason": "ServiceUnavailable"})},
            "does not answer (503)",
        ),
        (
            {f"GET {PROXY}/v1/cert.pem": (404, {"kind": "Status", "reason": "NotFound"})},
            "is not there: deploy the role",
        ),
        ({f"GET {PROXY}/v1/cert.pem": (200, b"<html>")}, "serves is no certificate"),
        ({"GET /api/v1/namespaces/reports": (404, {})}, "namespace is 'reports', which is not there: make the"),
        ({f"POST {SEALED}": (404, {})}, "the cluster knows no SealedSecrets"),
    ],
)
def test_a_cluster_that_is_not_as_it_should_be(cluster, run, spoil, words):
    answers(cluster)
    cluster.answers[f"POST {SEALED}"] = (201, {"metadata": {"name": "login", "namespace": "reports"}, "spec": {}})
    cluster.answers.update(spoil)
    result = run("sealed_secret", wait=False, **ONLINE)
    assert "value-in-no-output-0123" not in result["_output"]
    if not words:
        assert result["changed"] is True
        return
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert [each for each in cluster.writes() if f"POST {SEALED}" not in each] == []


def test_two_controllers(cluster, run):
    answers(cluster)
    for namespace in ("kube-system", "sealed-secrets"):
        cluster.store(
            f"/apis/apps/v1/deployments/{namespace}",
            {"metadata": {"name": "sealed-secrets-controller", "namespace": namespace}},
        )
    result = run("sealed_secret", **ONLINE)
    assert "there are 2 Sealed Secrets controllers, kube-system/sealed-secrets-controller and sealed-" in result["msg"]
    assert cluster.writes() == []


@pytest.mark.parametrize(
    ("secret", "options", "words"),
    [
        ({"type": "kubernetes.io/tls"}, {"type": "Opaque"}, "is of type kubernetes.io/tls and must be Opaque"),
        ({"immutable": True}, {}, "is immutable, so that its key a cannot be written: delete it first"),
        ({"immutable": True}, {"immutable": False, "keys": {}}, "is immutable, which cannot be undone"),
        (
            {"metadata": {"ownerReferences": [{"kind": "ExternalSecret", "name": "e", "controller": True}]}},
            {},
            "belongs to ExternalSecret e, which would write it again",
        ),
        ({}, {"keys": {"a": {"secret": {"name": "none"}}}}, "keys.a.secret names Secret reports/none, which is not"),
        ({}, {"keys": {"a": {"secret": {"name": "login"}}}}, "names the key a of Secret reports/login: it has old"),
    ],
)
def test_a_secret_that_cannot_become_what_is_asked_for(cluster, run, secret, options, words):
    cluster.secret("reports/login", {"old": b"1"}, **secret)
    answers(cluster)
    result = run("sealed_secret", **(ONLINE | options))
    assert words in result["msg"]
    assert cluster.writes() == []


@pytest.mark.parametrize("apply", [True, False])
def test_a_namespace_that_is_not_there_in_check_mode_is_warned_of(cluster, run, tmp_path, apply):
    cluster.answers[f"GET {PROXY}/v1/cert.pem"] = (200, pathlib.Path(CERTIFICATE).read_bytes())
    for path in (f"{SEALED}/login", "/api/v1/namespaces/reports"):
        cluster.answers[f"GET {path}"] = cluster.status(404, "NotFound", "not found")
    result = run("sealed_secret", check=True, apply=apply, path=str(tmp_path / "x"), **ONLINE)
    assert result["changed"] is True
    assert ("namespace is 'reports', which is not there" in result["_output"]) is apply


def test_edited_names_what_was_written_by_others_after_the_status():
    sealed = {
        "metadata": {
            "managedFields": [
                {"manager": "controller", "subresource": "status", "time": "2026-01-01T10:00:05Z"},
                {"manager": "mlops.mlflow", "time": "2026-01-01T10:00:09Z"},
            ]
        }
    }

    def secret(manager, time):
        fields = {"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:labels": {}}}
        return {"metadata": {"managedFields": [{"manager": manager, "time": time, "fieldsV1": fields}]}}

    assert edited(secret("kubectl-edit", "2026-01-01T10:00:06Z"), sealed) == {"a"}
    assert edited(secret("kubectl-edit", "2026-01-01T10:00:05Z"), sealed) == set()
    assert edited(secret("controller", "2026-01-01T10:00:06Z"), sealed) == set(), "a resync"
    assert edited({"metadata": {}}, sealed) == set()
    assert edited(secret("kubectl-edit", "2026-01-01T10:00:06Z"), {"metadata": {}}) == set()


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["env", "file", "value", "secret", "generate", "length", "name", "key", "x"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
OPTIONS = {
    "name": "login",
    "namespace": "reports",
    "state": "present",
    "keys": {},
    "type": None,
    "labels": {},
    "annotations": {},
    "immutable": None,
    "scope": "strict",
    "certificate": None,
    "path": "",
    "digest_key": None,
    "controller_namespace": "sealed-secrets",
    "controller_name": "sealed-secrets-controller",
    "apply": True,
    "wait_timeout": 60,
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(max_size=8),
            "namespace": st.text(max_size=8),
            "keys": st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), ANY, max_size=3),
            "labels": st.dictionaries(st.text(max_size=3), ANY, max_size=2),
            "digest_key": st.dictionaries(st.text(max_size=3), ANY, max_size=2),
            "apply": st.booleans(),
        },
    )
)
@example({"keys": {"a": {"env": "a=b\0"}}})
@example({"keys": {"a": {"file": "\0"}}})
@example({"keys": {"a": {"env": "\ud800"}}})
@example({"keys": {"a": {"file": "\ud800"}}})
@example({"keys": {"a": {"value": "\ud83d"}}})
@example({"keys": {"a": {"generate": []}}})
@example({"keys": {"a": {"secret": {"name": 1}}}})
def test_any_options_are_read_or_refused_in_a_sentence(options):
    try:
        wanted = sealed_secret.parse({**OPTIONS, **options})
    except WrongInputError as error:
        message = str(error)
    else:
        assert wanted.name
        message = ""
    assert "Traceback" not in message
