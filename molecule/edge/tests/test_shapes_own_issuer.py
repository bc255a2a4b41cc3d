"""All certificates by cert-manager of the collection, by the stack's own CA: made, served, renewed, and taken back.

The tests build on one another. This file is the last of the scenario by its name.
"""

import json
import pathlib
import socket
import ssl
import struct
import time
import urllib.parse

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials import certificates
from cryptography import x509

from tests.lib.acme import certificate_status, renew, stored_certificate
from tests.lib.stack import NAMESPACES, wait_until

# Component and port, by the Secret of the certificate that is served there.
SERVERS = {"postgres-server-tls": ("postgres", 5432), "minio-server-tls": ("minio", 9000)}
SERVERS |= {"keycloak-server-tls": ("keycloak", 8443), "mlflow-server-tls": ("mlflow", 5443)}
EDGE = {"mlflow-tls": "mlflow", "keycloak-tls": "keycloak"}
ALL = {
    **{name: component for name, (component, _port) in SERVERS.items()},
    **EDGE,
    "postgres-superuser-tls": "postgres",
}
# PostgreSQL's own request for TLS: https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def served(stack, name):
    """The certificate that a server shows, which has to be one of the stack's CA for its Service."""
    component, port = SERVERS[name]
    context = ssl.create_default_context(cafile=stack.ca_file())
    with stack.forwarded(component, port) as local, socket.create_connection(("127.0.0.1", local), timeout=30) as raw:
        if component == "postgres":
            raw.sendall(SSL_REQUEST)
            assert raw.recv(1) == b"S"
        with context.wrap_socket(raw, server_hostname=f"{component}.{NAMESPACES[component]}.svc") as one:
            return x509.load_der_x509_certificate(one.getpeercert(binary_form=True))


def stored(stack, name):
    """The certificate in a Secret."""
    return x509.load_pem_x509_certificate(stored_certificate(stack, NAMESPACES[ALL[name]], name).encode())


def shown(stack, name):
    """The certificate in a Secret once its server or the edge shows it; None before."""
    try:
        if name in SERVERS:
            found = served(stack, name)
        else:
            url = stack.mlflow_url if ALL[name] == "mlflow" else stack.keycloak_url
            found = stack.certificate(urllib.parse.urlsplit(url).hostname)
    except OSError:  # of another CA, or in a restart
        return None
    return found if found == stored(stack, name) else None


def pods(stack):
    """The pods that mount certificates, and how often their containers were restarted."""
    return {
        pod.metadata.uid: [each.restart_count for each in pod.status.container_statuses]
        for component in ("postgres", "minio", "keycloak", "mlflow")
        for pod in stack.pods(component)
    }


def objects(stack, kind):
    """Namespace and name of all objects of a kind."""
    listed = json.loads(stack.kubectl("get", kind, "-A", "-o", "json"))["items"]
    return {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in listed}


def places():
    return {(NAMESPACES[component], name) for name, component in ALL.items()}


@pytest.fixture(scope="module")
def shaped(stack):
    """The stack in this shape, whose switch to it restarts no pod that mounts a certificate."""
    before = pods(stack)
    shaped = stack.shaped("own_issuer")
    shaped.converges()
    assert pods(shaped) == before
    return shaped


def test_every_certificate_is_one_of_cert_manager(shaped):
    """Each is ready, of the stack's CA, and renewed in time; and nobody else makes its Secret."""
    assert objects(shaped, "certificates.cert-manager.io") == places()
    root = x509.load_pem_x509_certificate(shaped.ca_file().read_bytes())
    for namespace, name in places():
        status = certificate_status(shaped, namespace, name)
        assert {each["type"]: each["status"] for each in status["conditions"]}["Ready"] == "True"
        assert "renewalTime" in status
        stored(shaped, name).verify_directly_issued_by(root)
        secret = shaped.core.read_namespaced_secret(name, namespace)
        assert secret.metadata.annotations["cert-manager.io/issuer-name"] == "mlflow-ca"
        assert not secret.metadata.owner_references
    assert not objects(shaped, "sealedsecrets.bitnami.com") & places()
    assert not [name for name in ALL if list((shaped.directory / "sealed").glob(f"*/{name}.yaml"))]


@pytest.mark.parametrize("name", [*SERVERS, *EDGE])
def test_a_server_shows_what_cert_manager_made(shaped, name):
    wait_until(lambda: shown(shaped, name), 150, f"the certificate of {name}")


@pytest.mark.parametrize("name", [*SERVERS, *EDGE])
def test_a_renewal_is_shown_by_the_same_pods(shaped, name):
    namespace, before, running = NAMESPACES[ALL[name]], stored(shaped, name), pods(shaped)
    renew(shaped, namespace, name)
    wait_until(lambda: stored(shaped, name) != before, 60, "another certificate")
    begun = time.monotonic()
    after = wait_until(lambda: shown(shaped, name), 150, "the server's new certificate")
    print(f"{name} is shown after {time.monotonic() - begun:.0f} s")
    assert after.public_key() != before.public_key()
    assert pods(shaped) == running


def test_the_superuser_is_let_in_by_a_renewed_certificate(shaped):
    before = stored(shaped, "postgres-superuser-tls")
    assert before.subject.rfc4514_string() == "CN=postgres"
    renew(shaped, "postgres", "postgres-superuser-tls")
    wait_until(lambda: stored(shaped, "postgres-superuser-tls") != before, 60, "another certificate")
    shaped.kubectl("-n", "postgres", "delete", "job", "-l", "mlops.mlflow/job=postgres-provision")
    done = shaped.playbook("--tags", "postgres")
    assert done.code == 0, done.output


def test_a_pod_waits_for_its_certificate(shaped):
    """As in a new cluster: the pod is there before its Secret is, and the run waits for both."""
    shaped.kubectl("-n", "cert-manager", "scale", "deployment", "cert-manager-minio", "--replicas=0")
    shaped.kubectl("-n", "cert-manager", "wait", "pod", "-l", "mlops.mlflow/looks-after=minio", "--for=delete")
    shaped.kubectl("-n", "minio", "delete", "secret", "minio-server-tls")
    shaped.kubectl("-n", "minio", "delete", "pod", "minio-0")
    assert ("minio", "minio-server-tls") not in objects(shaped, "secrets")
    done = shaped.playbook()
    assert done.code == 0, done.output
    assert wait_until(lambda: shown(shaped, "minio-server-tls"), 30, "MinIO's certificate")


def test_another_ca_issues_all_certificates_again(shaped, tmp_path):
    """cert-manager would not see that its Issuer signs by another one."""
    another = certificates.issue_authority(certificates.Certificate("another", ca=True, days=3650), certificates.now())
    for key, value in another.items():
        (tmp_path / key).write_bytes(value)
    given = {"mlflow-ca": {key: {"file": str(tmp_path / key)} for key in another}}
    done = shaped.playbook("-e", json.dumps({"platform_credentials": given}))
    assert done.code == 0, done.output
    root = x509.load_pem_x509_certificate(another["tls.crt"])
    for name in ALL:
        wait_until(lambda name=name: stored(shaped, name).issuer == root.subject, 60, f"{name} of the other CA")
    for name in (*SERVERS, *EDGE):
        wait_until(lambda name=name: shown(shaped, name), 150, f"the certificate of {name}")
    # Existing values stay, so this CA stays the stack's.
    again = shaped.playbook()
    assert (again.code, again.count("changed")) == (0, 0), again.output


def test_it_passes_the_same_tests(shaped):
    shaped.passes("test_clients.py")


def test_the_way_back_restarts_no_pod(shaped):
    """Module credentials has the Secrets again, with the same certificates, and nothing else has the CA's key."""
    before, running = {name: stored(shaped, name) for name in ALL}, pods(shaped)
    words = ("-e", "platform_tls=own_ca")
    done = shaped.playbook(*words)
    assert done.code == 0, done.output
    again = shaped.playbook(*words)
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert pods(shaped) == running
    assert {name: stored(shaped, name) for name in ALL} == before
    assert objects(shaped, "certificates.cert-manager.io") == set()
    assert objects(shaped, "issuers.cert-manager.io") == set()
    assert {namespace for namespace, name in objects(shaped, "secrets") if name == "mlflow-ca"} == {"mlflow"}
    assert objects(shaped, "sealedsecrets.bitnami.com") >= places()
    left = {name for namespace, name in objects(shaped, "deployments") if namespace == "cert-manager"}
    assert left == {"cert-manager-mlflow", "cert-manager-keycloak"}
    files = {pathlib.Path(each).stem for each in (shaped.directory / "sealed").glob("*/*.yaml")}
    assert files >= ALL.keys()
