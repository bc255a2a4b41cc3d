"""The edge with certificates of an ACME server, by cert-manager of the collection: issued, renewed under load, refused.

This file and that of the shape own_issuer are the last of the scenario by their names.
"""

import datetime
import http.client
import json
import pathlib
import subprocess
import time
import urllib.parse

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from tests.lib import REPOSITORY, servers
from tests.lib import stack as stacks
from tests.lib.acme import Pebble, certificate_status, lead_to_edge, renew, stored_certificate
from tests.lib.clients import ROUND_TRIP
from tests.lib.stack import Background, wait_until

CERTIFICATES = {"mlflow": "mlflow-tls", "keycloak": "keycloak-tls"}
MODULE = "github.com/cert-manager/cert-manager"


def host_of(url):
    return urllib.parse.urlsplit(url).hostname


@pytest.fixture(scope="module")
def shaped(stack):
    """The stack in this shape."""
    shaped = stack.shaped("acme")
    hosts = [host_of(each) for each in (shaped.mlflow_url, shaped.keycloak_url, shaped.api_url)]
    pebble = Pebble(stack)
    pebble.start()
    lead_to_edge(stack, *hosts)
    shaped.converges()
    shaped.ca.write_text(pebble.root())
    return shaped


def test_certificates_are_issued(shaped):
    """For all hosts of the stack, by the ACME server alone, which clients verify. It renews them by itself in time."""
    hosts = {
        "mlflow": [host_of(shaped.mlflow_url), host_of(shaped.api_url)],
        "keycloak": [host_of(shaped.keycloak_url)],
    }
    for component, names in hosts.items():
        for host in names:
            shown = shaped.certificate(host)
            found = shown.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
            assert sorted(found.get_values_for_type(x509.DNSName)) == sorted(names)
            assert "Pebble" in shown.issuer.rfc4514_string()
        status = certificate_status(shaped, stacks.NAMESPACES[component], CERTIFICATES[component])
        renewal = datetime.datetime.fromisoformat(status["renewalTime"])
        assert shown.not_valid_before_utc < renewal < shown.not_valid_after_utc


def test_nothing_of_a_challenge_is_left(shaped):
    for namespace in CERTIFICATES:
        for kind in ("challenges.acme.cert-manager.io", "ingress", "pods", "services"):
            left = shaped.kubectl("-n", namespace, "get", kind, "-o", "name")
            assert "cm-acme-http-solver" not in left
            assert kind != "challenges.acme.cert-manager.io" or not left


def test_it_passes_the_same_tests(shaped):
    shaped.passes("test_edge.py", "test_clients.py")


class Load(Background):
    """Asks for a page over and over, by a connection that is kept or by a new one each time."""

    def __init__(self, stack, host, kept, path="/health"):
        super().__init__()
        self.stack, self.host, self.kept, self.path = stack, host, kept, path
        self.answered, self.failed = 0, []

    def connection(self):
        raw = http.client.HTTPSConnection("127.0.0.1", self.stack.port, context=self.stack.context(), timeout=30)
        raw.connect = lambda: self._connect(raw)
        return raw

    def _connect(self, raw):
        # The certificate is of the host, which the tests' cluster serves at this machine's address.
        http.client.HTTPConnection.connect(raw)
        raw.sock = self.stack.context().wrap_socket(raw.sock, server_hostname=self.host)

    def run(self):
        one = self.connection()
        while not self.done.is_set():
            try:
                one.request("GET", self.path, headers={"Host": f"{self.host}:{self.stack.port}"})
                answer = one.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failed.append((answer.status, body[:200]))
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                one.close()
            if not self.kept:
                one.close()
                one = self.connection()
            time.sleep(0.05)
        one.close()


def test_a_renewal_drops_no_connection(shaped, admin_token, mark):
    """Kept connections, new ones and an upload go on, and new ones see the new certificate."""
    host = host_of(shaped.mlflow_url)
    before = shaped.certificate(host)
    loads = [Load(shaped, host, kept) for kept in (True, False, True, False)]
    upload = shaped.start_client(ROUND_TRIP, stacks.ADMIN, admin_token, 400, f"renewal-{mark}")
    with loads[0], loads[1], loads[2], loads[3]:
        renew(shaped, "mlflow", "mlflow-tls")
        wait_until(lambda: shaped.certificate(host) != before, 300, "another certificate")
        time.sleep(10)
    output, _none = upload.communicate(timeout=600)
    print(f"answered: {[each.answered for each in loads]}; the transfer: {output.splitlines()[-1:]}")
    assert [each.failed for each in loads] == [[]] * 4
    assert min(each.answered for each in loads) > 50
    assert upload.returncode == 0, output
    after = shaped.certificate(host)
    assert after.serial_number != before.serial_number
    assert after.public_key() != before.public_key()
    assert x509.load_pem_x509_certificate(stored_certificate(shaped, "mlflow", "mlflow-tls").encode()) == after


def test_a_certificate_that_is_not_issued_is_said_by_name(shaped):
    """A host that the ACME server would not find: the run says which, and the former certificate stays."""
    host = "nowhere.example.test"
    done = shaped.playbook("-e", f"mlflow_api_url=https://{host}:{shaped.port}", "-e", "platform_timeout=90")
    assert done.code != 0
    sentence = next(line for line in done.output.splitlines() if "Certificate mlflow/mlflow-tls is not ready" in line)
    assert f"challenge of {host}" in sentence
    assert shaped.certificate(host_of(shaped.mlflow_url))
    shaped.converges()


def upstream():
    """The definitions that cert-manager's module has, by their names."""
    go = servers.find_go()
    versions = yaml.safe_load((REPOSITORY / "roles/images/vars/main.yml").read_text())["__images_versions"]
    command = [go, "mod", "download", "-json", f"{MODULE}@v{versions['cert_manager']}"]
    done = subprocess.run(command, cwd="/", check=True, capture_output=True)
    files = pathlib.Path(json.loads(done.stdout)["Dir"], "deploy", "crds").glob("*.yaml")
    found = [yaml.safe_load(each.read_text()) for each in files]
    return {each["metadata"]["name"]: each for each in found}


def test_the_definitions_are_of_the_same_api(shaped):
    """Kinds, names, versions, and what may not be missing, as cert-manager's own have them."""
    theirs = upstream()
    listed = json.loads(shaped.kubectl("get", "crd", "-l", "app.kubernetes.io/name=cert-manager", "-o", "json"))
    ours = {each["metadata"]["name"]: each for each in listed["items"]}
    assert theirs.keys() - ours.keys() == {"clusterissuers.cert-manager.io"}
    assert ours.keys() <= theirs.keys()
    for name, each in ours.items():
        mine, other = each["spec"], theirs[name]["spec"]
        assert mine["scope"] == other["scope"]
        for key in ("kind", "plural", "singular"):
            assert mine["names"][key] == other["names"][key]
        assert mine["names"].get("shortNames", []) == other["names"].get("shortNames", [])
        [version], [known] = mine["versions"], other["versions"]
        assert (version["name"], version["subresources"]) == (known["name"], known["subresources"])
        own, upstreams = (one["schema"]["openAPIV3Schema"]["properties"]["spec"] for one in (version, known))
        assert sorted(own.get("required", [])) == sorted(upstreams.get("required", []))
        assert own["x-kubernetes-preserve-unknown-fields"]
