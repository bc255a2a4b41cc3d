"""A stack behind an edge: its host names, its CA, and connections to it as clients outside of the cluster make them."""

import base64
import contextlib
import functools
import hashlib
import http.client
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import typing
import urllib.parse

import quickstart
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.lib import REPOSITORY
from tests.lib import stack as stacks

SCENARIO = REPOSITORY / "molecule" / "edge"
RESOLVER = pathlib.Path(__file__).with_name("resolver")


class EdgeStack(stacks.Stack):
    """A stack whose URLs have names of the tests' own.

    Programs that the tests start, and the tests themselves, find the names and trust the CA by these variables alone:
    ``PYTHONPATH`` and ``REQUESTS_CA_BUNDLE``.
    """

    def __init__(self, directory, *inventories):
        super().__init__(directory, *inventories)
        self.ca = self.directory / "ca.crt"
        # Before pip would trust no other CA.
        quickstart.client_python()
        os.environ["PYTHONPATH"] = str(RESOLVER)
        os.environ["REQUESTS_CA_BUNDLE"] = str(self.ca)
        os.environ["EDGE_ADDRESS"] = self.address
        if str(RESOLVER) not in sys.path:
            sys.path.insert(0, str(RESOLVER))
            # Python may have one of the system's already.
            exec((RESOLVER / "sitecustomize.py").read_text(), {"__name__": "sitecustomize"})  # noqa: S102  our own file

    def shaped(self, shape):
        """The same stack by another shape of the scenario's inventory."""
        return EdgeStack(self.directory, *self.inventories, SCENARIO / "shapes" / shape)

    def converges(self):
        """Run the playbook, and once more, which must find nothing to change."""
        done = self.playbook()
        assert done.code == 0, done.output
        again = self.playbook()
        assert (again.code, again.count("changed")) == (0, 0), again.output

    def passes(self, *files):
        """Run tests of the scenario on this shape, in a process of their own."""
        words = [word for each in self.inventories for word in ("--stack-inventory", str(each))]
        paths = [str(SCENARIO / "tests" / each) for each in files]
        command = [sys.executable, "-m", "pytest", "-q", *paths, "--stack-dir", str(self.directory), *words]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        print(ran.stdout[-6000:])
        assert ran.returncode == 0

    def certificate(self, host):
        """The certificate that the edge shows for a host, which has to be valid."""
        raw = socket.create_connection((self.address, self.port), timeout=60)
        with self.context().wrap_socket(raw, server_hostname=host) as one:
            return x509.load_der_x509_certificate(one.getpeercert(binary_form=True))

    @property
    def port(self):
        """The port of https."""
        return urllib.parse.urlsplit(self.mlflow_url).port or 443

    @functools.cached_property
    def address(self):
        """The address that Traefik's Service was given, or else this machine's, whose ports kind maps to its node."""
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        return self.kubectl("-n", "traefik", "get", "service", "traefik", "-o", path).strip() or "127.0.0.1"

    @property
    def api_url(self):
        """The URL for programs, whose host is not templated."""
        return self._at_its_port("mlflow_api_url")

    @property
    def s3_url(self):
        """The URL of MinIO's S3, whose host is not templated."""
        return self._at_its_port("mlflow_s3_public_url")

    def _at_its_port(self, name):
        return f"{self.variables[name].partition(':{{')[0]}:{self.port}"

    def context(self):
        """What verifies the edge's certificates."""
        return ssl.create_default_context(cafile=self.ca)

    def browser_flags(self):
        """Flags by which Chromium finds the names, and takes those certificates alone that the CA has issued."""
        digests = []
        for url in (self.mlflow_url, self.keycloak_url):
            key = self.certificate(urllib.parse.urlsplit(url).hostname).public_key()
            info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            digests.append(base64.b64encode(hashlib.sha256(info).digest()).decode())
        return [
            f"--host-resolver-rules=MAP *.example.test {self.address}",
            f"--ignore-certificate-errors-spki-list={','.join(digests)}",
        ]

    def asked(self, host, path, *, secure=True, headers=None, name=None):
        """What the edge answers at a path as it stands, which `requests` would tidy up.

        Args:
            host: the host of the request.
            path: the path, sent as it is.
            secure: whether by https.
            headers: more headers.
            name: what the certificate has to be of, if not the host.
        """
        port = self.port if secure else self.http_port
        raw = socket.create_connection((self.address, port), timeout=60)
        with contextlib.closing(
            self.context().wrap_socket(raw, server_hostname=name or host) if secure else raw
        ) as one:
            lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
            lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
            one.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = http.client.HTTPResponse(one)
            answer.begin()
            body = answer.read()
        return Answer(answer.status, dict(answer.getheaders()), body)

    @property
    def http_port(self):
        """The port of http, beside that of https."""
        return int(
            self.kubectl("-n", "traefik", "get", "service", "traefik", "-o", "jsonpath={.spec.ports[0].nodePort}")
        )


class Answer(typing.NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes
