"""What the edge verifies the pods by."""

import base64

import requests

from tests.lib import stack as stacks
from tests.lib.servers import CA

# The Secrets of the certificates by which the edge verifies pods, and their names.
VERIFIED = {
    "mlflow": ("mlflow-server-tls", "mlflow-internal.mlflow.svc"),
    "keycloak": ("keycloak-server-tls", "keycloak-internal.keycloak.svc"),
}


def test_a_pod_with_a_certificate_of_another_ca_gets_nothing(stack):
    """The edge speaks TLS to the pods, and verifies them: without the stack's certificate no request comes to them."""
    urls = {"mlflow": f"{stack.mlflow_url}/health", "keycloak": f"{stack.keycloak_url}/realms/mlflow"}
    kept = {}

    def answers(expected):
        # New connections, since those that are open stay as they are.
        return all(requests.get(url, timeout=60).status_code in expected for url in urls.values() for _try in range(4))

    try:
        for component, (name, host) in VERIFIED.items():
            namespace = stacks.NAMESPACES[component]
            kept[component] = stack.core.read_namespaced_secret(name, namespace).data
            other = dict(zip(("tls.crt", "tls.key"), CA("another CA").issue(host), strict=True))
            data = {key: base64.b64encode(text.encode()).decode() for key, text in other.items()}
            stack.core.patch_namespaced_secret(name, namespace, {"data": data})
        stacks.wait_until(lambda: answers((500, 502, 503)), 300, "answers of an edge that trusts no pod", 2)
    finally:
        for component, data in kept.items():
            name = VERIFIED[component][0]
            stack.core.patch_namespaced_secret(name, stacks.NAMESPACES[component], {"data": data})
    stacks.wait_until(lambda: answers((200,)), 300, "answers of the pods, by their own certificates", 2)
