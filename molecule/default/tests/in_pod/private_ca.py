"""Connect to a provider with a certificate of a private CA, as a login and as the bearer token check do.

Runs in a pod of the server. Prints both results, first without the CA and then with it, and the number of trusted
public CAs.
"""

import datetime
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# With the functions of mlflow-oidc-auth, which reads its settings and OpenSSL's once per process.
ASK = r"""
import asyncio, json
from mlflow_oidc_auth import auth, oauth
assert oauth.ensure_client_registered()
login = oauth.get_client().load_server_metadata
results = []
for ask in (lambda: asyncio.run(login()), auth._get_oidc_jwks):
    try:
        results.append(sorted(ask()))
    except Exception as error:
        results.append(f"{type(error).__name__}: {error}")
print(json.dumps(results))
"""


def certificate(name, key, issuer, issuer_key, *extensions):
    """Return a certificate that is valid for a day."""
    now = datetime.datetime.now(datetime.UTC)
    called = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
    built = (
        x509.CertificateBuilder()
        .subject_name(called[0])
        .issuer_name(called[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        built = built.add_extension(extension, critical=critical)
    return built.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def usage(**given):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})


def write_certificates(folder):
    """Write the CA's certificate, and the provider's with its key."""
    issuer, provider = (ec.generate_private_key(ec.SECP256R1()) for _unused in range(2))
    (folder / "ca.crt").write_bytes(
        certificate(
            "Company",
            issuer,
            "Company",
            issuer,
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (usage(key_cert_sign=True, crl_sign=True), True),
        )
    )
    key = provider.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "provider.pem").write_bytes(
        key
        + certificate(
            "localhost",
            provider,
            "Company",
            issuer,
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),
            (usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        )
    )


class Provider(http.server.BaseHTTPRequestHandler):
    """The part of an identity provider that is called."""

    def do_GET(self):
        here = f"https://localhost:{self.server.server_address[1]}"
        found = {"issuer": here, "jwks_uri": f"{here}/keys", "token_endpoint": f"{here}/token"}
        content = json.dumps({"keys": []} if self.path == "/keys" else found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_unused):
        pass


class Server(http.server.ThreadingHTTPServer):
    """A server that does not log failed TLS handshakes."""

    def handle_error(self, request, client_address):
        pass


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "provider.pem")
        server = Server(("127.0.0.1", 0), Provider)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {key: value for key, value in os.environ.items() if key not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
        environment["OIDC_DISCOVERY_URL"] = f"https://localhost:{server.server_address[1]}/openid-configuration"
        results = {}
        for which, more in (("without", {}), ("with", {"SSL_CERT_FILE": str(folder / "ca.crt")})):
            environment |= more
            command = [sys.executable, "-c", ASK]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            results[which] = json.loads(done.stdout.splitlines()[-1])
        results["public"] = len(list(pathlib.Path(ssl.get_default_verify_paths().openssl_capath).glob("*.0")))
        server.shutdown()
    print(json.dumps(results))


main()
