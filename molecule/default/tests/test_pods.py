"""Users, privileges and arguments of the pods, checked from inside and outside."""

import json

import pytest

from tests.lib import stack as stacks

USERS = {"sealed_secrets": 1001, "postgres": 999, "minio": 1000, "keycloak": 1000, "mlflow": 10001}
WRITABLE = {
    "postgres": "/var/lib/postgresql/data",
    "minio": "/data",
    "keycloak": "/tmp",
    "mlflow": "/tmp",
}


@pytest.fixture(params=sorted(stacks.NAMESPACES))
def component(request, stack):
    if request.param not in stack.namespaces:
        pytest.skip("this stack has no such component")
    return request.param


@pytest.fixture
def host(pod, component):
    """Return the testinfra host of a component's first pod."""
    if component == "sealed_secrets":
        pytest.skip("the image has no shell")
    return pod(component)


def test_namespace_enforces_the_restricted_standard(stack, component):
    labels = stack.core.read_namespace(stacks.NAMESPACES[component]).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_all_replicas_are_ready(stack, component):
    wanted = 2 if component == "mlflow" else 1
    assert len(stack.ready(component)) == wanted


def test_pod_specification(stack, component):
    pods = stack.core.list_namespaced_pod(stacks.NAMESPACES[component]).items
    assert pods
    for pod in pods:
        spec = pod.spec
        name = pod.metadata.name
        assert spec.security_context.run_as_non_root, name
        assert spec.security_context.seccomp_profile.type == "RuntimeDefault", name
        assert spec.enable_service_links is False, name
        assert spec.automount_service_account_token is (component == "sealed_secrets"), name
        for container in [*spec.containers, *(spec.init_containers or [])]:
            context = container.security_context
            where = f"{name}/{container.name}"
            assert context.read_only_root_filesystem, where
            assert context.allow_privilege_escalation is False, where
            assert context.capabilities.drop == ["ALL"], where
            assert container.resources.requests["cpu"], where
            assert container.resources.requests["memory"], where
            assert container.resources.limits["memory"], where
            assert container.image_pull_policy != "Always" or "localhost/" not in container.image, where
        if not any(owner.kind == "Job" for owner in pod.metadata.owner_references):
            assert all(container.readiness_probe for container in spec.containers), name


def test_no_container_restarted(stack, component):
    restarts = {
        f"{pod.metadata.name}/{status.name}": status.restart_count
        for pod in stack.pods(component)
        for status in pod.status.container_statuses
    }
    assert not any(restarts.values()), restarts


def test_user_inside(host, component):
    assert int(host.check_output("id -u")) == USERS[component]
    assert host.file("/proc/1").uid == USERS[component]


def test_root_filesystem_is_read_only(host, component):
    written = host.run("touch /usr/written /etc/written /opt/written")
    assert written.rc != 0
    assert written.stderr.count("Read-only file system") == 3, written.stderr
    assert host.run(f"touch {WRITABLE[component]}/written && rm {WRITABLE[component]}/written").rc == 0


def test_no_usable_service_account_token_is_mounted(stack, component, host):
    token = host.file("/var/run/secrets/kubernetes.io/serviceaccount/token")
    if component == "mlflow" and stack.variables.get("mlflow_kubernetes_namespaces"):
        # The server reads the keys of service account tokens with it, and has no other rights.
        assert token.exists
        account = f"--as=system:serviceaccount:{stacks.NAMESPACES['mlflow']}:mlflow"
        for what in (("get", "secrets"), ("list", "pods"), ("create", "pods"), ("create", "serviceaccounts/token")):
            assert stack.kubectl("auth", "can-i", *what, "-n", "mlflow", account, check=False).strip() == "no"
    else:
        assert not token.exists


def test_no_privilege_inside(host):
    status = host.file("/proc/1/status").content_string
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    assert int(effective.split()[1], 16) == 0
    assert "NoNewPrivs:\t1" in status


def test_arguments_hold_no_secret(stack, host):
    arguments = host.check_output("for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p 2>/dev/null; echo; done")
    assert len(arguments.split()) > 2
    found = [name for name, value in stack.secret_values().items() if value in arguments]
    assert not found


def test_planted_argument_is_detected(host):
    """Control: a planted argument is found. The value is made up, since a failure prints it."""
    planted = "planted-0123456789abcdef"
    look = "for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p 2>/dev/null; echo; done"
    seen = host.check_output(f"sh -c 'sleep 2; :' {planted} & sleep 0.5; {look} | grep -v 'for p in'")
    assert planted in seen


def test_every_workload_has_its_own_service_account(stack, component):
    for pod in stack.pods(component):
        rules = stack.kubectl(
            "auth",
            "can-i",
            "--list",
            f"--as=system:serviceaccount:{pod.metadata.namespace}:{pod.spec.service_account_name}",
            "-n",
            pod.metadata.namespace,
        )
        assert ("secrets" in rules) is (component == "sealed_secrets"), json.dumps(rules.splitlines()[:20])
