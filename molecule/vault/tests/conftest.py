"""The stack with credentials in Vault, and that Vault."""

import json
import os
import pathlib
import subprocess

import pytest

from tests.lib import servers, vaulted
from tests.lib import stack as stacks
from tests.lib.fixtures import stack_of


@pytest.fixture(scope="session")
def stack(request):
    """The stack of the scenario `vault`."""
    return stack_of(request.config, vaulted.VaultedStack, "vault")


@pytest.fixture(scope="session")
def vault(stack):
    """The Vault, with an administrator's access."""
    directory = stack.directory / "vault"
    keys = json.loads((directory / "keys.json").read_text())
    return servers.Server(stack.variables["vault_url"], directory / "ca.pem", keys)


@pytest.fixture
def unsealed(vault):
    """Vault, which is unsealed again after the test."""
    yield vault
    if vault.wait()["sealed"]:
        vault.unseal()


@pytest.fixture(scope="session")
def namespaces(stack):
    """Two namespaces of the tests."""
    for name in (vaulted.ONE, vaulted.TWO):
        stack.kubectl("create", "namespace", name, check=False)
    yield
    stack.kubectl("delete", "namespace", vaulted.ONE, vaulted.TWO, "--wait=false")


@pytest.fixture
def login(stack, vault, namespaces, tmp_path):
    """A Secret in two namespaces, with its values in Vault."""
    made = vaulted.Login(stack, vault, tmp_path)
    made.clear()
    changed, output = made.changed()
    assert changed, output
    yield made
    if vault.wait()["sealed"]:
        vault.unseal()
    made.clear()


@pytest.fixture(scope="session")
def external_secrets_crd(stack):
    """The CRD of ExternalSecret in the cluster, without its operator."""
    go = servers.find_go()
    if go is None:
        pytest.skip("no Go here, by which the definitions of External Secrets are fetched")
    module = "github.com/external-secrets/external-secrets@v1.3.2"
    done = subprocess.run(
        [go, "mod", "download", "-json", module],
        cwd=stack.directory,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = pathlib.Path(json.loads(done.stdout)["Dir"]) / "config" / "crds" / "bases"
    path = folder / "external-secrets.io_externalsecrets.yaml"
    stack.kubectl("apply", "--server-side", "-f", path)
    try:
        # A new CRD has no conditions yet for kubectl wait.
        served = "/apis/external-secrets.io/v1"
        stacks.wait_until(
            lambda: "externalsecrets" in stack.kubectl("get", "--raw", served, check=False),
            30,
            f"an answer of {served}",
        )
        yield path
    finally:
        stack.kubectl("delete", "-f", path, "--wait=true")
