"""What a new component takes: a role of a few files, converged by role `platform` like those of the collection."""

import base64
import json

from tests.lib import REPOSITORY

PLAYBOOK = "tests/drills/echo.yml"
ROLE = REPOSITORY / "tests" / "drills" / "roles" / "echo"
MOST_FILES, MOST_LINES = 6, 120


def test_a_component_is_a_few_files(say):
    files = {path: len(path.read_text().splitlines()) for path in ROLE.rglob("*") if path.is_file()}
    say(f"  a Deployment with a Service and a Secret: {len(files)} files, {sum(files.values())} lines")
    assert len(files) <= MOST_FILES
    assert sum(files.values()) <= MOST_LINES


def test_a_component_has_what_the_others_have(deployed):
    """Check mode, credentials, apply, wait, a second run without changes, and removal."""
    kubectl = deployed.stack.kubectl
    checked = deployed.run(PLAYBOOK, "--check")
    checked.expect_success("checking the component")
    assert "Deployment echo" in checked.output
    assert "echo" not in kubectl("get", "namespaces", "-o", "name")
    try:
        deployed.run(PLAYBOOK).expect_success("deploying the component")
        secret = json.loads(kubectl("-n", "echo", "get", "secret", "echo-token", "-o", "json"))
        assert len(base64.b64decode(secret["data"]["token"])) == 32
        status = json.loads(kubectl("-n", "echo", "get", "deployment", "echo", "-o", "json"))["status"]
        assert status["availableReplicas"] == 1
        policies = kubectl("-n", "echo", "get", "networkpolicies", "-o", "name").split()
        names = ("default-deny", "mlflow-to-echo", "pods-to-dns")
        assert policies == [f"networkpolicy.networking.k8s.io/{name}" for name in names]
        assert kubectl("-n", "echo", "get", "poddisruptionbudgets", "-o", "name").split() == [
            "poddisruptionbudget.policy/echo"
        ]
        again = deployed.run(PLAYBOOK)
        again.expect_success("deploying the component again")
        assert again.changes == []
        deployed.run(PLAYBOOK, "-e", "echo_state=absent").expect_success("removing the component")
        left = kubectl("-n", "echo", "get", "deployments,services,secrets,networkpolicies,pdb", "-o", "name").split()
        assert left == ["secret/echo-token"], "credentials stay until the data goes"
    finally:
        kubectl("delete", "namespace", "echo", "--ignore-not-found")
