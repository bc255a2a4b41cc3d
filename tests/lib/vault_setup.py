"""Prepare the Vault of the scenario `vault`: its certificate, and its configuration by an administrator.

The directory keeps what the tests need afterwards: ca.pem, role-id, secret-id, and keys.json with the root token and
the unseal keys.
"""

import argparse
import json
import os
import pathlib

from tests.lib import servers

NAMES = ("vault.vault.svc", "vault.vault.svc.cluster.local", "localhost", "127.0.0.1")


def write(path, text):
    """Write a file that only its owner can read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def make_certificates(directory, more_names):
    """Create the CA and Vault's certificate."""
    directory.mkdir(parents=True, exist_ok=True)
    ca = servers.CA("private CA of the tests")
    certificate, key = ca.issue(*NAMES, *more_names)
    for name, text in {"ca.pem": ca.pem, "tls.crt": certificate, "tls.key": key}.items():
        write(directory / name, text)


def make_ready(directory, url, plugin_sha256):
    """Initialise and unseal Vault, and configure it as docs/secrets-vault.md describes."""
    server = servers.Server(url, directory / "ca.pem")
    server.wait()
    server.initialise()
    write(directory / "keys.json", json.dumps(server.keys))
    # The audit log hashes secrets.
    server.client().sys.enable_audit_device("file", options={"file_path": "stdout"})
    server.configure()
    server.enable_kubernetes(plugin_sha256, "https://kubernetes.default.svc", ["deployer"], ["vault"])
    role_id, secret_id = server.approle()
    write(directory / "role-id", role_id)
    write(directory / "secret-id", secret_id)


def main():
    """Run with the command line's arguments."""
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
