"""What the edge verifies the pods by."""

import base64

import requests

from tests.lib import stack as stacks
from tests.lib.servers import CA

# Of MLflow. Keycloak takes a certificate that it has had before for no change.
SECRET, HOST = "mlflow-server-tls", "mlflow-internal.mlflow.svc"


def test_a_pod_with_a_certificate_of_another_ca_gets_nothing(stack):
    """The edge speaks TLS to the pods, and verifies them: without the stack's certificate no request comes to them."""
    namespace = stacks.NAMESPACES["mlflow"]
    kept = stack.core.read_namespaced_secret(SECRET, namespace).data
    other = dict(zip(("tls.crt", "tls.key"), CA("another CA").issue(HOST), strict=True))

    def answers():
        # Of several pods.
        return {requests.get(f"{stack.mlflow_url}/health", timeout=60).status_code for _try in range(8)}

    try:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in other.items()}
        stack.core.patch_namespaced_secret(SECRET, namespace, {"data": data})
        # Connections that were open before go on, so not all are refused.
        stacks.wait_until(lambda: answers() & {500, 502}, 300, "an edge that does not trust a pod", 2)
    finally:
        stack.core.patch_namespaced_secret(SECRET, namespace, {"data": kept})
    stacks.wait_until(lambda: answers() == {200}, 300, "answers of the pods, by their own certificates", 2)
