"""Switching a running stack through the backends: no value changes, no pod restarts, and no session ends."""

import pytest

from tests.lib import stack as stacks
from tests.lib.vaulted import OTHERS, credentials, pods, words

SEARCH = "/api/2.0/mlflow/experiments/search"
OWNERS = {"kubernetes": [], "sealed_secrets": ["SealedSecret"], "vault": []}


def owners(stack):
    """Return the owner kinds of each Secret of the stack."""
    return {
        f"{namespace}/{secret.metadata.name}": [each.kind for each in secret.metadata.owner_references or []]
        for namespace in stacks.NAMESPACES.values()
        for secret in stack.core.list_namespaced_secret(namespace).items
        if not secret.metadata.name.startswith(OTHERS)
    }


@pytest.fixture(scope="module")
def session(stack):
    """A session that exists during all switches."""
    return stack.login(stacks.USER)


def test_switch_through_all_backends(stack, session):
    values, running = credentials(stack), pods(stack)
    restarts = restarts_of(stack)
    assert len(values) >= 10
    # Switch back to vault for the other tests of the scenario.
    for backend in ("kubernetes", "sealed_secrets", "vault", "kubernetes", "vault"):
        done = stack.playbook("--diff", *words(platform_secrets_backend=backend))
        assert done.code == 0, done.output
        for name, kinds in owners(stack).items():
            assert kinds == OWNERS[backend], f"{name} after the move to {backend}"
        moved = credentials(stack)
        assert [name for name in values if moved[name] != values[name]] == []
        assert pods(stack) == running, f"pods were replaced by the move to {backend}"
        assert restarts_of(stack) == restarts
        answer = session.post(stack.mlflow_url + SEARCH, json={"max_results": 1}, timeout=60)
        assert answer.status_code == 200, f"the session ended with the move to {backend}"
        second = stack.playbook(*words(platform_secrets_backend=backend))
        assert second.code == 0, second.output
        assert second.count("changed") == 0, second.output


def restarts_of(stack):
    """Return the restart counts of containers by pod."""
    return {
        pod.metadata.name: sum(status.restart_count for status in pod.status.container_statuses or [])
        for component in stacks.NAMESPACES
        for pod in stack.pods(component)
    }
