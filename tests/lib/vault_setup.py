"""Makes the Vault of the scenario `vault` ready: its certificate, and what an administrator does once it runs.

The directory keeps what the tests need afterwards: ca.pem, role-id, secret-id, and keys.json with the root token and
the shares of the key.
"""

import argparse
import json
import os
import pathlib

from tests.lib import servers

NAMES = ("vault.vault.svc", "vault.vault.svc.cluster.local", "localhost", "127.0.0.1")


def write(path, text):
    """Write a file that only its owner reads."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def make_certificates(directory, more_names):
    """Make the authority and Vault's certificate."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = servers.Authority("private authority of the tests")
    certificate, key = authority.issue(*NAMES, *more_names)
    for name, text in {"ca.pem": authority.pem, "tls.crt": certificate, "tls.key": key}.items():
        write(directory / name, text)


def make_ready(directory, url, plugin_sha256):
    """Initialise and unseal Vault, and make what docs/secrets-vault.md tells people to make."""
    server = servers.Server(url, directory / "ca.pem")
    server.wait()
    server.initialise()
    write(directory / "keys.json", json.dumps(server.keys))
    # Vault notes each request, with digests in place of what is secret.
    server.client().sys.enable_audit_device("file", options={"file_path": "stdout"})
    server.configure()
    server.enable_kubernetes(plugin_sha256, "https://kubernetes.default.svc", ["deployer"], ["vault"])
    role_id, secret_id = server.approle()
    write(directory / "role-id", role_id)
    write(directory / "secret-id", secret_id)


def main():
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    certificates = commands.add_parser("certificates")
    certificates.add_argument("directory", type=pathlib.Path)
    certificates.add_argument("names", nargs="*", help="further names of the certificate")
    ready = commands.add_parser("ready")
    ready.add_argument("directory", type=pathlib.Path)
    ready.add_argument("url")
    arguments = parser.parse_args()
    if arguments.command == "certificates":
        make_certificates(arguments.directory, arguments.names)
    else:
        make_ready(arguments.directory, arguments.url, servers.plugin_digest())


if __name__ == "__main__":
    main()
