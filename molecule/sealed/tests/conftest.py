"""The stack with sealed credentials, on a cluster that the tests may delete."""

import secrets

import pytest

from tests.lib import DIRECTORY, INVENTORY
from tests.lib.drill import Drill


@pytest.fixture(scope="session")
def drill(say):
    """The tests' cluster, with the stack on it."""
    return Drill(DIRECTORY, INVENTORY, say)


@pytest.fixture(scope="session")
def sealed(drill):
    """The directory of the sealed files."""
    return drill.directory / "sealed"


@pytest.fixture(scope="session")
def vault(tmp_path_factory):
    """The arguments of ansible-playbook for the backup of the keys: vault password and path."""
    folder = tmp_path_factory.mktemp("vault")
    (folder / "password").write_text(secrets.token_urlsafe() + "\n")
    (folder / "another").write_text(secrets.token_urlsafe() + "\n")
    file = folder / "sealing-keys.vault.yml"

    def words(password="password"):  # noqa: S107  the name of a file
        return ("--vault-password-file", folder / password, "-e", f"sealed_secrets_keys_file={file}")

    words.file = file
    return words
