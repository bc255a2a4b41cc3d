"""What the edge verifies the pods by."""

import base64
import ssl

import requests

from tests.lib import stack as stacks
from tests.lib.servers import CA

# Of MLflow. Keycloak takes a certificate that it has had before for no change.
SECRET, HOST = "mlflow-server-tls", "mlflow-internal.mlflow.svc"


def served(stack):
    """The certificates that MLflow's pods serve."""
    found = set()
    for pod in stack.pods("mlflow"):
        with stack.forwarded("mlflow", 5443, pod.metadata.name) as port:
            found.add(ssl.get_server_certificate(("127.0.0.1", port)).strip())
    return found


def test_a_pod_with_a_certificate_of_another_ca_gets_nothing(stack):
    """The edge speaks TLS to the pods, and verifies them: without the stack's certificate no request comes to them."""
    namespace = stacks.NAMESPACES["mlflow"]
    kept = stack.core.read_namespaced_secret(SECRET, namespace).data
    other = dict(zip(("tls.crt", "tls.key"), CA("another CA").issue(HOST), strict=True))

    def answers():
        return {requests.get(f"{stack.mlflow_url}/health", timeout=60).status_code for _try in range(8)}

    try:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in other.items()}
        stack.core.patch_namespaced_secret(SECRET, namespace, {"data": data})
        stacks.wait_until(lambda: served(stack) == {other["tls.crt"].strip()}, 300, "the other certificate", 2)
        # Connections that are open would go on.
        stack.kubectl("-n", "traefik", "delete", "pods", "--selector", "app.kubernetes.io/name=traefik")
        stack.kubectl("-n", "traefik", "rollout", "status", "deployment/traefik", "--timeout=120s")
        assert answers() <= {500, 502}
    finally:
        stack.core.patch_namespaced_secret(SECRET, namespace, {"data": kept})
    stacks.wait_until(lambda: answers() == {200}, 300, "answers of the pods, by their own certificate", 2)
