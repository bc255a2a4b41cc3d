"""The pods that hold data stay as they are from version to version: each change of their template restarts them."""

import hashlib
import json

import pytest

from tests.lib import rendering

# By the default variables, and without TLS. A change here is a restart of the database, or of the object store, of each
# running stack: avoid it, or have a fragment in changelogs/ name it.
TEMPLATES = {
    ("minio", True): "9ba07c7616f54985",
    ("postgres", True): "edf08e0ac626e125",
    ("minio", False): "aacb23b5b6ca2656",
    ("postgres", False): "d761511dd0dde42b",
}


@pytest.mark.parametrize(("component", "tls"), TEMPLATES)
def test_pods_that_hold_data_are_not_restarted_by_an_upgrade(component, tls):
    options = {} if tls else {"platform_internal_tls": False}
    (workload,) = [each for each in rendering.Role(component).manifests(options) if each["kind"] == "StatefulSet"]
    pod = workload["spec"]["template"]
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        container.pop("image")  # a new version of the program is a change of its own
    found = hashlib.sha256(json.dumps(pod, sort_keys=True).encode()).hexdigest()[:16]
    assert found == TEMPLATES[component, tls], "this change restarts the pod of every running stack"
