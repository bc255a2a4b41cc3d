# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the certificates that the module credentials issues and verifies."""

from __future__ import annotations

import copy
import datetime
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials import certificates
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.certificates import Certificate
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CA = {
    "name": "mlflow-ca",
    "namespaces": ["mlflow"],
    "type": "kubernetes.io/tls",
    "certificate": {"ca": True, "common_name": "mlflow", "days": 3650},
}
SERVER = {
    "name": "postgres-server-tls",
    "namespaces": ["postgres"],
    "type": "kubernetes.io/tls",
    "certificate": {
        "authority": "mlflow/mlflow-ca",
        "common_name": "postgres",
        "hosts": ["postgres.postgres.svc", "*.peers.svc", "127.0.0.1"],
    },
}
ASKED = {"common_name": "", "hosts": [], "days": 90, "authority": "", "ca": False, "client": False, "issuer": ""}
DAY = datetime.timedelta(days=1)


def changed(secret: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give a Secret whose certificate is another one."""
    return {**secret, "certificate": {**secret["certificate"], **more}}


def read(pem: bytes) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(pem)


@pytest.fixture
def later(monkeypatch):
    """Give a function that lets days pass."""

    def move(days: float) -> None:
        at = certificates.now() + days * DAY
        monkeypatch.setattr(certificates, "now", lambda: at)

    return move


# --- what is issued ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["postgres", "", "n" * 80])
def test_a_certificate_is_verified_by_the_ca(cluster, run, tmp_path, name):
    result = run("credentials", secrets=[changed(SERVER, common_name=name), CA])
    assert result.get("failed") is None, result
    ca, server = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
    assert sorted(ca) == ["next.crt", "next.key", "previous.crt", "tls.crt", "tls.key"]
    assert sorted(server) == ["ca.crt", "tls.crt", "tls.key"]
    assert server["ca.crt"] == ca["tls.crt"] + ca["next.crt"]
    assert result["certificates"] == {"mlflow/mlflow-ca": server["ca.crt"].decode()}
    assert cluster.objects["/api/v1/namespaces/postgres/secrets/postgres-server-tls"]["type"] == "kubernetes.io/tls"
    key = serialization.load_pem_private_key(server["tls.key"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"

    for file, pem in (("ca", ca["tls.crt"]), ("server", server["tls.crt"])):
        (tmp_path / file).write_bytes(pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", tmp_path / "ca"]
    for host, well in (("postgres.postgres.svc", True), ("a.peers.svc", True), ("a.b.peers.svc", False)):
        checked = [*command, "-verify_hostname", host, tmp_path / "server"]
        done = subprocess.run(checked, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == well, done.stderr
    assert "PRIVATE KEY" not in result["_output"]


def test_a_clients_certificate_is_for_no_server(cluster, run):
    run("credentials", secrets=[CA, changed(SERVER, client=True, hosts=[], common_name="postgres")])
    certificate = read(cluster.values("postgres/postgres-server-tls")["tls.crt"])
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.subject.rfc4514_string() == "CN=postgres"


@pytest.mark.parametrize("name", ["postgres", "", "n" * 80])
def test_a_second_run_changes_nothing(cluster, run, name):
    first = run("credentials", secrets=[CA, changed(SERVER, common_name=name)])
    cluster.requests.clear()
    second = run("credentials", secrets=[CA, changed(SERVER, common_name=name)])
    assert second["changed"] is False
    assert second["certificates"] == first["certificates"]
    assert cluster.writes() == []


def test_check_mode_tells_and_writes_nothing(cluster, run):
    cluster.namespace("mlflow", "postgres")
    result = run("credentials", check=True, secrets=[CA, SERVER])
    assert [each["created"] for each in result["secrets"]] == [True, True]
    assert result["certificates"] == {"mlflow/mlflow-ca": ""}
    assert cluster.writes() == []


@pytest.mark.parametrize(("days", "renewed"), [(0, False), (59, False), (61, True), (200, True)])
def test_it_is_renewed_when_less_than_a_third_of_its_life_is_left(cluster, run, later, days, renewed):
    run("credentials", secrets=[CA, SERVER])
    ca, server = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
    later(days)
    result = run("credentials", secrets=[CA, SERVER])
    assert result["changed"] is renewed
    assert cluster.values("mlflow/mlflow-ca") == ca
    now = cluster.values("postgres/postgres-server-tls")
    assert (now["tls.crt"] != server["tls.crt"]) is renewed
    assert (now["tls.key"] != server["tls.key"]) is renewed
    assert run("credentials", secrets=[CA, SERVER])["changed"] is False


@pytest.mark.parametrize(
    "differences",
    [{"hosts": ["other.svc"]}, {"hosts": []}, {"common_name": "other"}, {"days": 30}],
    ids=lambda each: next(iter(each)),
)
def test_another_request_is_another_certificate(cluster, run, differences):
    run("credentials", secrets=[CA, SERVER])
    before = cluster.values("postgres/postgres-server-tls")
    result = run("credentials", secrets=[CA, changed(SERVER, **differences)])
    assert result["secrets"][1]["updated"] == ["tls.crt", "tls.key"]
    assert cluster.values("postgres/postgres-server-tls")["tls.crt"] != before["tls.crt"]
    assert run("credentials", secrets=[CA, changed(SERVER, **differences)])["changed"] is False


def test_more_days_hold_from_the_next_renewal(cluster, run):
    run("credentials", secrets=[CA, SERVER])
    assert run("credentials", secrets=[CA, changed(SERVER, days=365)])["changed"] is False


def test_a_renewed_ca_verifies_what_it_signed_before(cluster, run, later):
    run("credentials", secrets=[CA, SERVER])
    ca, server = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
    later(2500)
    result = run("credentials", secrets=[CA, SERVER])
    new_ca, new_server = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
    assert new_ca["tls.key"] == ca["tls.key"]
    assert new_ca["tls.crt"] != ca["tls.crt"]
    assert new_server["ca.crt"] == new_ca["tls.crt"] + new_ca["next.crt"] + ca["tls.crt"]
    assert result["certificates"]["mlflow/mlflow-ca"] == new_server["ca.crt"].decode()
    for old_or_new in (ca, new_ca):
        for signed in (server, new_server):
            read(signed["tls.crt"]).verify_directly_issued_by(read(old_or_new["tls.crt"]))


@pytest.mark.parametrize("broken", [{}, {"tls.key": b"no key"}, {"tls.crt": b"no certificate"}, {"tls.crt": b""}])
def test_what_is_damaged_is_issued_again(cluster, run, broken):
    run("credentials", secrets=[CA, SERVER])
    whole = cluster.values("postgres/postgres-server-tls")
    other = certificates.issue(
        Certificate("postgres", ("postgres.postgres.svc",), 90, "x"),
        certificates.issue_authority(Certificate("other", ca=True, days=100), certificates.now()),
        certificates.now(),
    )
    cluster.secret("postgres/postgres-server-tls", {**whole, **(broken or other)}, type="kubernetes.io/tls")
    assert run("credentials", secrets=[CA, SERVER])["changed"] is True
    now = cluster.values("postgres/postgres-server-tls")
    read(now["tls.crt"]).verify_directly_issued_by(read(cluster.values("mlflow/mlflow-ca")["tls.crt"]))
    assert now["ca.crt"] == certificates.trusted(cluster.values("mlflow/mlflow-ca"))


def test_two_runs_at_once_agree_on_one_ca(cluster, run):
    cluster.namespace("mlflow", "postgres")
    theirs = certificates.issue_authority(Certificate("theirs", ca=True, days=3650), certificates.now())

    def write_meanwhile(method, path):
        if method == "POST" and path.endswith("/mlflow/secrets"):
            cluster.before = lambda method, path: None
            cluster.secret("mlflow/mlflow-ca", theirs, type="kubernetes.io/tls")

    cluster.before = write_meanwhile
    run("credentials", secrets=[CA, SERVER])
    ca = cluster.values("mlflow/mlflow-ca")
    assert {name: ca[name] for name in theirs} == theirs
    assert cluster.values("postgres/postgres-server-tls")["ca.crt"] == theirs["tls.crt"] + ca["next.crt"]


def test_a_ca_of_before_gets_a_next_one_and_its_certificates_stay(cluster, run):
    theirs = certificates.issue_authority(Certificate("mlflow", ca=True, days=3650), certificates.now())
    cluster.secret("mlflow/mlflow-ca", theirs, type="kubernetes.io/tls")
    signed = certificates.issue(
        certificates.read_certificate("x", {**ASKED, **SERVER["certificate"]}), theirs, certificates.now()
    )
    cluster.secret("postgres/postgres-server-tls", signed, type="kubernetes.io/tls")
    run("credentials", secrets=[CA, SERVER])
    ca, server = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
    assert {name: ca[name] for name in theirs} == theirs
    assert server == {**signed, "ca.crt": theirs["tls.crt"] + ca["next.crt"]}


def test_a_rotated_ca_is_trusted_by_who_has_read_the_former_ones(cluster, run):
    run("credentials", secrets=[CA, SERVER])
    for _turn in range(2):
        before, trusted = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
        run("credentials", secrets=[CA, SERVER], rotate={"mlflow-ca": ""})
        ca, server = cluster.values("mlflow/mlflow-ca"), cluster.values("postgres/postgres-server-tls")
        assert (ca["tls.crt"], ca["tls.key"]) == (before["next.crt"], before["next.key"])
        assert ca["previous.crt"] == before["tls.crt"]
        assert ca["next.crt"] not in before.values()
        # What is signed now is trusted by who knows the former bundle, and the other way round.
        assert read(server["tls.crt"]).issuer == read(ca["tls.crt"]).subject
        read(server["tls.crt"]).verify_directly_issued_by(read(ca["tls.crt"]))
        assert ca["tls.crt"] in trusted["ca.crt"]
        assert before["tls.crt"] in server["ca.crt"]
        assert run("credentials", secrets=[CA, SERVER])["changed"] is False


def test_a_ca_that_has_no_next_one_is_not_rotated(cluster, run):
    theirs = certificates.issue_authority(Certificate("mlflow", ca=True, days=3650), certificates.now())
    cluster.secret("mlflow/mlflow-ca", theirs, type="kubernetes.io/tls")
    result = run("credentials", secrets=[CA, SERVER], rotate={"mlflow-ca": ""})
    assert result["msg"].endswith(
        "Secret mlflow/mlflow-ca has no next CA yet: run site.yml first, so that all pods know it"
    )
    assert cluster.values("mlflow/mlflow-ca") == theirs


# --- what cert-manager makes ------------------------------------------------------------------------------------------

LEFT = changed(SERVER, issuer="mlflow-ca")
PLACE = "postgres/postgres-server-tls"
SEALED = "/apis/bitnami.com/v1alpha1/namespaces/postgres/sealedsecrets/postgres-server-tls"
EXTERNAL = "/apis/external-secrets.io/v1/namespaces/postgres/externalsecrets/postgres-server-tls"
CERTIFICATE = "/apis/cert-manager.io/v1/namespaces/postgres/certificates/postgres-server-tls"


def take_over(cluster, authority: str = "mlflow/mlflow-ca", issuer: str = "mlflow-ca") -> None:
    """Do to the Secret what cert-manager does, with a Certificate of its name."""
    wanted = Certificate("postgres", tuple(SERVER["certificate"]["hosts"]), 90, authority)
    ca = cluster.values(authority)
    cluster.store(CERTIFICATE, {"spec": {}})
    metadata = {
        "annotations": {
            "cert-manager.io/certificate-name": "postgres-server-tls",
            "cert-manager.io/issuer-name": issuer,
            "note": "ours",
        },
        "labels": {"controller.cert-manager.io/fao": "true"},
        "ownerReferences": [{"kind": "Certificate", "uid": "x"}],
    }
    values = certificates.issue(wanted, ca, certificates.now())
    cluster.secret(PLACE, values, metadata=metadata, type="kubernetes.io/tls")


def metadata(cluster):
    """What the Secret has beside its values."""
    return cluster.objects["/api/v1/namespaces/postgres/secrets/postgres-server-tls"]["metadata"]


def test_what_cert_manager_makes_is_not_issued(cluster, run):
    result = run("credentials", secrets=[CA, LEFT])
    assert result.get("failed") is None, result
    assert [each["created"] for each in result["secrets"]] == [True, False]
    assert not any("postgres" in each for each in cluster.writes())
    assert run("credentials", secrets=[CA, LEFT])["changed"] is False


NOTED = "cert-manager.io/issuer-name"


@pytest.mark.parametrize(
    ("asked", "noted", "words"),
    [
        ({"issuer": "mlflow-ca"}, "mlflow-ca", "adopted by its Issuer"),
        ({"issuer": "mlflow-acme", "authority": ""}, "no_issuer", "to be issued again"),
    ],
)
def test_what_was_issued_stays_until_cert_manager_replaces_it(cluster, run, asked, noted, words):
    """It replaces what another issuer than its Certificate's is noted for, and would take what is noted for none."""
    run("credentials", secrets=[CA, SERVER])
    before = cluster.values(PLACE)
    left = changed(SERVER, **asked)
    assert run("credentials", check=True, secrets=[CA, left])["secrets"][1]["converted"] == [words]
    assert NOTED not in (metadata(cluster).get("annotations") or {})
    assert run("credentials", secrets=[CA, left])["secrets"][1]["converted"] == [words]
    assert metadata(cluster)["annotations"][NOTED] == noted
    assert run("credentials", secrets=[CA, left])["changed"] is False
    assert cluster.values(PLACE) == before


def test_nothing_is_supplied_for_it(cluster, run, tmp_path):
    result = run("credentials", secrets=[CA, LEFT], supplied=supplied(tmp_path, OURS, "postgres-server-tls"))
    assert result.get("failed") is None, result
    assert not any("postgres" in each for each in cluster.writes())


MAKERS = {
    "SealedSecret": (SEALED, {"ownerReferences": [{"kind": "SealedSecret", "uid": "x"}]}),
    "ExternalSecret": (EXTERNAL, {"labels": {"reconcile.external-secrets.io/managed": "true"}}),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("there", [True, False])
def test_who_else_made_it_is_gone_before(cluster, run, maker, there):
    """Its values stay. A Secret that is missing at that moment would be made again too."""
    run("credentials", secrets=[CA])
    path, metadata = copy.deepcopy(MAKERS[maker])
    if there:
        cluster.secret(PLACE, OURS, metadata=metadata, type="kubernetes.io/tls")
    spec = {"target": {"creationPolicy": "Orphan", "deletionPolicy": "Retain"}}
    cluster.store(path, {"metadata": {"generation": 1}, "spec": spec})

    def collect(method: str, _path: str) -> None:
        if path not in cluster.objects and method == "GET":
            metadata.pop("ownerReferences", None)

    cluster.before = collect
    expected = [f"released from its {maker}", *(["to be issued again"] if there else [])]
    assert run("credentials", check=True, secrets=[CA, LEFT])["secrets"][1]["converted"] == expected
    assert path in cluster.objects
    assert run("credentials", secrets=[CA, LEFT])["secrets"][1]["converted"] == expected
    assert path not in cluster.objects
    assert ("/api/v1/namespaces/postgres/secrets/postgres-server-tls" in cluster.objects) is there
    assert not there or cluster.values(PLACE) == OURS
    assert run("credentials", secrets=[CA, LEFT])["changed"] is False


@pytest.mark.parametrize("path", [SEALED, EXTERNAL])
def test_who_may_not_see_other_makers_has_none(cluster, run, path):
    cluster.answers[f"GET {path}"] = cluster.status(403, "Forbidden", "no")
    assert run("credentials", secrets=[CA, LEFT]).get("failed") is None


@pytest.mark.parametrize(("issuer", "again"), [("mlflow-ca", True), ("mlflow-acme", False)])
def test_another_ca_has_cert_manager_issue_again(cluster, run, tmp_path, issuer, again):
    """It does so by itself only where its Issuer is another one, and not where that signs by another CA."""
    run("credentials", secrets=[CA])
    take_over(cluster, issuer=issuer)
    assert run("credentials", secrets=[CA, LEFT])["changed"] is False
    other = certificates.issue_authority(Certificate("company", ca=True, days=2000), certificates.now())
    given = supplied(tmp_path, other, "mlflow-ca")
    result = run("credentials", secrets=[CA, LEFT], supplied=given)
    assert result["secrets"][1]["converted"] == (["to be issued again"] if again else [])
    assert metadata(cluster)["annotations"][NOTED] == ("no_issuer" if again else issuer)
    assert CERTIFICATE in cluster.objects


def test_a_renewed_ca_lets_it_stay(cluster, run, later):
    run("credentials", secrets=[CA])
    take_over(cluster)
    before = cluster.values(PLACE)
    later(2500)
    run("credentials", secrets=[CA, LEFT])
    assert cluster.values("mlflow/mlflow-ca")["tls.crt"] != before["ca.crt"]
    assert cluster.values(PLACE) == before


@pytest.mark.parametrize("differences", [{}, {"hosts": ["other.svc"]}], ids=["as requested", "another host"])
def test_it_is_taken_back_from_cert_manager(cluster, run, differences):
    """Its certificate stays where it is as requested, and the Certificate would write over another one."""
    run("credentials", secrets=[CA])
    take_over(cluster)
    before = cluster.values(PLACE)
    wanted = changed(SERVER, **differences)
    told = run("credentials", check=True, secrets=[CA, wanted])
    assert told["secrets"][1]["converted"] == ["released from its Certificate"]
    assert CERTIFICATE in cluster.objects
    assert run("credentials", secrets=[CA, wanted])["changed"] is True
    assert CERTIFICATE not in cluster.objects
    assert (cluster.values(PLACE) == before) is (not differences)
    metadata = cluster.objects["/api/v1/namespaces/postgres/secrets/postgres-server-tls"]["metadata"]
    assert metadata["annotations"] == {"note": "ours"}
    assert metadata["labels"] == {}
    assert metadata["ownerReferences"] == []
    assert run("credentials", secrets=[CA, wanted])["changed"] is False


# --- what others provide ----------------------------------------------------------------------------------------------


def issued(hosts: tuple[str, ...] = ("mlflow.example.com",), days: int = 90, age: int = 0) -> dict[str, bytes]:
    """Give a certificate of somebody else's CA with its key."""
    at = certificates.now() - age * DAY
    authority = certificates.issue_authority(Certificate("company", ca=True, days=3650), at)
    bundle = certificates.issue(Certificate("mlflow", hosts, days, "company"), authority, at)
    return {key: bundle[key] for key in ("tls.crt", "tls.key")}


def rsa_key() -> bytes:
    """Give a key of another kind, encrypted."""
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


OURS = issued()
BAD = {
    "another name": (issued(("other.example.com", "10.0.0.1")), "for other.example.com, 10.0.0.1, and not for mlflow"),
    "no name": (issued(()), "for no host, and not for mlflow.example.com"),
    "a wildcard of another level": (issued(("*.com",)), "for *.com, and not for mlflow.example.com"),
    "expired": (issued(days=10, age=20), "that expired on 20"),
    "not yet valid": (issued(age=-5), "that is valid from 20"),
    "another key": ({**OURS, "tls.key": issued()["tls.key"]}, "private key in tls.key that is not that of"),
    "a key with a passphrase": ({**OURS, "tls.key": rsa_key()}, "no private key in PEM form, without a passphrase"),
    "no certificate": ({**OURS, "tls.crt": b"PEM"}, "no certificate in PEM form in its key tls.crt"),
}
EDGE: dict[str, Any] = {
    "name": "mlflow-tls",
    "namespaces": ["mlflow"],
    "type": "kubernetes.io/tls",
    "certificate": {"hosts": ["mlflow.example.com"]},
}
EXISTING = {**EDGE, "existing": True, "variable": "mlflow_tls_secret"}


@pytest.mark.parametrize(
    "hosts", [("mlflow.example.com",), ("MLflow.example.com",), ("*.example.com",), ("a.b", "mlflow.example.com")]
)
def test_a_certificate_of_others_is_taken(cluster, run, hosts):
    cluster.secret("mlflow/mlflow-tls", issued(hosts), type="kubernetes.io/tls")
    result = run("credentials", secrets=[EXISTING])
    assert result.get("failed") is None, result
    assert result["changed"] is False


@pytest.mark.parametrize("case", BAD)
def test_a_certificate_that_will_not_do_is_refused(cluster, run, case):
    values, why = BAD[case]
    cluster.secret("mlflow/mlflow-tls", values, type="kubernetes.io/tls")
    result = run("credentials", secrets=[EXISTING])
    assert result["failed"] is True
    assert "mlflow_tls_secret is 'mlflow-tls': Secret mlflow/mlflow-tls has" in result["msg"]
    assert why in result["msg"]
    assert "PRIVATE" not in result["_output"]


def test_a_secret_of_another_type_is_refused(cluster, run):
    cluster.secret("mlflow/mlflow-tls", OURS, type="Opaque")
    result = run("credentials", secrets=[EXISTING])
    assert "is of type Opaque and must be kubernetes.io/tls" in result["msg"]


def test_a_secret_that_is_not_there_is_refused(cluster, run):
    result = run("credentials", secrets=[EXISTING])
    assert "Secret mlflow/mlflow-tls is not there, and must hold the keys tls.crt, tls.key" in result["msg"]


def supplied(folder: Path, values: dict[str, bytes], name: str = "mlflow-tls") -> dict[str, Any]:
    """Supply values by files."""
    for key, value in values.items():
        (folder / key).write_bytes(value)
    return {name: {key: {"file": str(folder / key)} for key in values}}


def test_a_certificate_that_is_supplied_is_written(cluster, run, tmp_path):
    run("credentials", secrets=[EDGE], supplied=supplied(tmp_path, OURS))
    assert cluster.values("mlflow/mlflow-tls") == {key: value.rstrip(b"\n") for key, value in OURS.items()}
    assert run("credentials", secrets=[EDGE], supplied=supplied(tmp_path, OURS))["changed"] is False


@pytest.mark.parametrize("case", BAD)
def test_what_is_supplied_is_verified_before_anything_is_written(cluster, run, tmp_path, case):
    values, why = BAD[case]
    result = run("credentials", secrets=[CA, EDGE], supplied=supplied(tmp_path, values))
    assert "platform_credentials.mlflow-tls has" in result["msg"]
    assert why in result["msg"]
    assert cluster.writes() == []


def test_a_certificate_is_supplied_with_its_key(cluster, run, tmp_path):
    result = run("credentials", secrets=[EDGE], supplied=supplied(tmp_path, {"tls.crt": OURS["tls.crt"]}))
    assert "platform_credentials.mlflow-tls lacks tls.key" in result["msg"]


def test_a_ca_that_is_supplied_signs(cluster, run, tmp_path):
    own = certificates.issue_authority(Certificate("company", ca=True, days=200), certificates.now())
    given = supplied(tmp_path, own, "mlflow-ca")
    run("credentials", secrets=[CA, SERVER], supplied=given)
    server = cluster.values("postgres/postgres-server-tls")
    read(server["tls.crt"]).verify_directly_issued_by(read(own["tls.crt"]))
    assert run("credentials", secrets=[CA, SERVER], supplied=given)["changed"] is False


def test_a_certificate_ends_with_that_of_its_ca(cluster, run, tmp_path):
    own = certificates.issue_authority(Certificate("company", ca=True, days=20), certificates.now())
    given = supplied(tmp_path, own, "mlflow-ca")
    run("credentials", secrets=[CA, SERVER], supplied=given)
    end = read(cluster.values("postgres/postgres-server-tls")["tls.crt"]).not_valid_after_utc
    assert end == read(own["tls.crt"]).not_valid_after_utc
    assert run("credentials", secrets=[CA, SERVER], supplied=given)["changed"] is False


def test_a_ca_that_may_not_sign_is_refused(cluster, run, tmp_path):
    result = run("credentials", secrets=[CA, SERVER], supplied=supplied(tmp_path, OURS, "mlflow-ca"))
    assert "platform_credentials.mlflow-ca has a certificate in tls.crt that is not of a CA" in result["msg"]


def test_a_ca_whose_key_is_in_its_certificates_file_is_refused(cluster, run, tmp_path):
    own = certificates.issue_authority(Certificate("company", ca=True, days=2000), certificates.now())
    both = {**own, "tls.crt": own["tls.crt"] + own["tls.key"]}
    result = run("credentials", secrets=[CA], supplied=supplied(tmp_path, both, "mlflow-ca"))
    assert "platform_credentials.mlflow-ca has a private key in tls.crt" in result["msg"]
    assert cluster.writes() == []


def test_a_secret_that_cert_manager_writes_meanwhile_is_handed_over_all_the_same(cluster, run):
    run("credentials", secrets=[CA, SERVER])

    def write_meanwhile(method, path):
        if method == "PATCH" and path.endswith("/postgres-server-tls"):
            cluster.before = lambda method, path: None
            metadata(cluster)["resourceVersion"] = "another"

    cluster.before = write_meanwhile
    result = run("credentials", secrets=[CA, LEFT])
    assert result["secrets"][1]["converted"] == ["adopted by its Issuer"]
    assert metadata(cluster)["annotations"][NOTED] == "mlflow-ca"


# --- what is requested ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (changed(SERVER, authority="other/ca"), "authority of Secret postgres-server-tls is 'other/ca'"),
        (changed(SERVER, days=0), "certificate.days is 0, and must be from 1 to 36525"),
        (changed(SERVER, days=36526), "certificate.days is 36526"),
        (changed(SERVER, ca=True), "certificate.ca is for a CA of the stack's own"),
        (changed(CA, issuer="x"), "certificate.ca is for a CA of the stack's own, which no issuer makes"),
        ({**SERVER, "type": "Opaque"}, "and so the type kubernetes.io/tls"),
        ({**SERVER, "keys": {"a": {"value": "b"}}}, "and so no keys of its own"),
    ],
)
def test_a_wrong_request_is_refused(cluster, run, secret, why):
    result = run("credentials", secrets=[CA, secret])
    assert why in result["msg"]
    assert cluster.writes() == []
