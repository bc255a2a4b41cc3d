"""Failures in the cluster: site.yml ends in time, and names the pod, the cause, and the end of its log."""

import re

import pytest

from tests.lib import stack as stacks
from tests.lib.drill import SITE

TIMEOUT = 40
AFTER = 30  # seconds for the last check and the report
NAMESPACE = "drill-failing"
CLASS = "drill-no-provisioner"
STORAGE_CLASS = f"""
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {CLASS}}}
provisioner: example.com/absent
"""


@pytest.fixture
def failing(deployed):
    """The stack in which something fails; it is restored at the end."""
    stack = deployed.stack
    stack.kubectl("apply", "-f", "-", text=STORAGE_CLASS)
    before = deployed.credentials()
    yield deployed
    stack.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    stack.kubectl("delete", "storageclass", CLASS, "--ignore-not-found")
    assert deployed.credentials() == before, "credentials of the stack were changed"


def fails(drill, what, *words):
    """Run site.yml, which must fail once within its time limit; return the message."""
    drill.whole = False
    done = drill.run(SITE, "-e", f"platform_timeout={TIMEOUT}", *words)
    assert done.code == 2, f"{what}: ended with {done.code}, see {done.log}"
    waited = done.seconds - done.starts[-1]
    assert waited < TIMEOUT + AFTER, f"{what}: was waited for during {waited:.0f} s, see {done.log}"
    assert "Traceback" not in done.output
    begun = done.output.rpartition("[ERROR]: Task failed")[2] or done.output.rpartition("fatal: ")[2]
    message = begun.partition("PLAY RECAP")[0]
    drill.say(f"  {what}: {done.seconds:.0f} s: {' '.join(message.split())[:160]}")
    assert "Wait for the" in done.task, f"{what}: failed in '{done.task}', see {done.log}"
    return message


def test_missing_image(failing):
    """New pods do not start, old ones keep serving, and the next run with a valid image recovers."""
    stack = failing.stack
    serving = {pod.metadata.name for pod in stack.ready("mlflow")}
    image = "localhost:1/absent/mlflow:none"
    message = fails(failing, "an image that does not exist", "--tags", "mlflow", "-e", f"mlflow_image={image}")
    words = r"pod mlflow-[a-z0-9-]+: container \S+ is waiting, (ErrImagePull|ImagePullBackOff)"
    assert re.search(words, message), message
    assert image in message
    assert {pod.metadata.name for pod in stack.ready("mlflow")} == serving
    stack.login(stacks.USER)
    failing.site("site.yml with the right image")
    failing.use("after an image that did not exist")


def test_volume_without_a_provisioner(failing):
    message = fails(
        failing,
        "a storage class without a provisioner",
        *("--tags", "minio", "-e", f"minio_namespace={NAMESPACE}", "-e", f"minio_storage_class={CLASS}"),
    )
    assert "pod minio-0" in message, message
    assert re.search(r"unbound|unbound immediate PersistentVolumeClaims", message), message
    assert "PersistentVolumeClaim" in message
    assert CLASS in message or "example.com/absent" in message, message


def test_crashing_container(failing):
    """The end of the log gives the cause, which the pod's conditions do not."""
    message = fails(
        failing,
        "a server that refuses its settings",
        *("--tags", "postgres", "-e", f"postgres_namespace={NAMESPACE}"),
        *("-e", '{"postgres_settings": {"max_wal_size": "nonsense"}}'),
    )
    assert "pod postgres-0: container postgres" in message, message
    assert re.search(r"crash", message), message
    assert re.search(r"exit code [1-9]", message), message
    assert 'invalid value for parameter "max_wal_size"' in message, message
