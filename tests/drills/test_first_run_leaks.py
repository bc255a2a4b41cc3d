"""The first run, which generates the credentials, reveals none in its output, diffs or arguments."""

import pytest

from tests.lib.leaks import Watcher, leaks


@pytest.mark.parametrize("backend", ["kubernetes", "sealed_secrets"])
def test_first_run(drill, backend):
    drill.clear()
    with Watcher() as watcher:
        done = drill.stack.playbook("-vvv", "--diff", "-e", f"platform_secrets_backend={backend}")
    assert done.code == 0, done.output[-4000:]
    secrets = drill.stack.secret_values()
    assert {"mlflow-db-credentials", "keycloak-users"} <= {name.split("/")[1] for name in secrets}
    assert "mlflow-db-credentials" in done.output
    assert leaks(secrets, done.output) == []
    assert "ansible-playbook" in watcher.text
    assert leaks(secrets, watcher.text) == []
    # Control: each of them would be found.
    name, value = next(iter(secrets.items()))
    assert leaks({name: value}, f"{done.output}{value}") == [name]
