"""Other shapes of the edge, one after the other on the running stack: each converges, and passes tests of its own.

This file and those of the shapes acme and own_issuer are the last of the scenario by their names.
"""

import json

import pytest

from tests.lib import go_module

# What each of them passes, in this order: what one leaves behind, the next one removes.
SHAPES = {
    "direct": ["test_edge.py", "test_direct.py"],
    "below_a_path": ["test_edge.py", "test_clients.py"],
    "gateway": ["test_edge.py", "test_clients.py", "test_direct.py", "test_backends.py"],
    "oauth2_proxy": ["test_proxied.py"],
}
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.6.3"
# The certificate of MinIO's host is in another namespace.
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: public, namespace: minio}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: mlflow}]
  to: [{group: "", kind: Secret, name: minio-tls}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: mlflow}
spec:
  gatewayClassName: traefik
  listeners:
    - name: http
      port: 80
      protocol: HTTP
      allowedRoutes: {namespaces: {from: All}}
    - name: https
      port: 443
      protocol: HTTPS
      tls: {mode: Terminate, certificateRefs: [{name: mlflow-tls}, {name: minio-tls, namespace: minio}]}
      allowedRoutes: {namespaces: {from: All}}
"""


def routes(stack):
    """What leads to the stack, and what a Gateway verifies by: kinds and namespaces."""
    kinds = "ingress"
    if "gateway.networking" in stack.kubectl("api-versions"):
        kinds += ",httproute,backendtlspolicy"
    found = json.loads(stack.kubectl("get", kinds, "-A", "-o", "json"))["items"]
    return {(each["kind"], each["metadata"]["namespace"]) for each in found}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape(stack, shape):
    if shape == "gateway":
        stack.kubectl("apply", "--server-side", "-k", str(go_module.folder(GATEWAY_API) / "config" / "crd"))
        stack.kubectl("apply", "-f", "-", text=GATEWAY)
    shaped = stack.shaped(shape)
    shaped.converges()
    kind = "HTTPRoute" if shape == "gateway" else "Ingress"
    minio = {(kind, "minio")} if "test_direct.py" in SHAPES[shape] else set()
    policies = {("BackendTLSPolicy", each) for each in ("mlflow", "keycloak", "minio")} if shape == "gateway" else set()
    assert routes(stack) == {(kind, "mlflow"), (kind, "keycloak")} | minio | policies
    shaped.passes(*SHAPES[shape])
