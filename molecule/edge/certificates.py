"""Make a CA, and issue certificates for Secrets that an edge reads.

Usage: certificates.py CA_FILE NAMESPACE/SECRET=HOST,HOST ...

Writes the CA's certificate to a file, and prints Namespaces and Secrets as JSON.
"""

import datetime
import json
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def pem(thing):
    """What a file holds of a certificate or a key."""
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM).decode()
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def certificate(name, key, signer, signing_key, *extensions):
    """A certificate for a day."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for extension in extensions:
        made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return made.sign(signing_key, hashes.SHA256())


def main():
    place, *wanted = sys.argv[1:]
    ca_key = ec.generate_private_key(ec.SECP256R1())
    identity = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = certificate("CA of the tests", ca_key, None, ca_key, x509.BasicConstraints(ca=True, path_length=0), identity)
    pathlib.Path(place).write_text(pem(ca))
    manifests = []
    for each in wanted:
        secret, _unused, hosts = each.partition("=")
        namespace, name = secret.split("/")
        key = ec.generate_private_key(ec.SECP256R1())
        issued = certificate(
            hosts.split(",")[0],
            key,
            ca,
            ca_key,
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts.split(",")]),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity),
        )
        manifests += [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": namespace, "name": name},
                "type": "kubernetes.io/tls",
                "stringData": {"tls.crt": pem(issued), "tls.key": pem(key)},
            },
        ]
    print(json.dumps(manifests))


if __name__ == "__main__":
    main()
