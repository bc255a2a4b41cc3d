"""An ACME server in the cluster of the tests, which finds the stack's hosts as one of the internet would."""

import base64
import datetime
import json
import re

import kubernetes

from tests.lib.servers import CA
from tests.lib.stack import wait_until

GROUP = ("cert-manager.io", "v1")
NAMESPACE = "acme"
HOST = f"pebble.{NAMESPACE}.svc.cluster.local"
EDGE = "traefik.traefik.svc.cluster.local"
CONFIGURATION = {
    "pebble": {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/etc/pebble/tls.crt",
        "privateKey": "/etc/pebble/tls.key",
        "httpPort": 80,
        "tlsPort": 443,
        "profiles": {"default": {"description": "of 90 days", "validityPeriod": 90 * 86400}},
    }
}


class Pebble:
    """Let's Encrypt's server for tests: https://github.com/letsencrypt/pebble

    Args:
        stack: the stack whose cluster it runs in.
    """

    def __init__(self, stack):
        self.stack = stack

    def start(self):
        """Deploy it, with a certificate of a CA of its own in the file that the shape names.

        One that runs stays, since each start forgets all accounts.
        """
        if self.stack.kubectl("-n", NAMESPACE, "get", "deployment/pebble", check=False):
            return
        ca = CA("ACME server")
        certificate, key = ca.issue(HOST)
        (self.stack.directory / "pebble.crt").write_text(ca.pem)
        image = json.loads((self.stack.directory / "images.json").read_text())["pebble"]
        files = {"tls.crt": certificate, "tls.key": key, "config.json": json.dumps(CONFIGURATION)}
        labels = {"app": "pebble"}
        container = {
            "name": "pebble",
            "image": image,
            "command": ["pebble", "-config", "/etc/pebble/config.json", "-strict"],
            # It would wait up to 15 seconds before it validates, and not validate a host again each time.
            "env": [{"name": "PEBBLE_VA_NOSLEEP", "value": "1"}, {"name": "PEBBLE_AUTHZREUSE", "value": "0"}],
            "volumeMounts": [{"name": "files", "mountPath": "/etc/pebble"}],
        }
        pod = {"containers": [container], "volumes": [{"name": "files", "secret": {"secretName": "pebble"}}]}
        objects = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "Secret", "stringData": files},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "spec": {"selector": labels, "ports": [{"name": str(each), "port": each} for each in (14000, 15000)]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
        ]
        for each in objects:
            each.setdefault("metadata", {"name": "pebble", "namespace": NAMESPACE})
            self.stack.kubectl("apply", "-f", "-", text=json.dumps(each))
        self.stack.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/pebble", "--timeout=120s")

    def root(self):
        """The root of the certificates that it issues, which is another one after each of its starts."""
        path = f"/api/v1/namespaces/{NAMESPACE}/services/https:pebble:15000/proxy/roots/0"
        return wait_until(lambda: self.stack.kubectl("get", "--raw", path, check=False), 60, "Pebble's root")


def lead_to_edge(stack, *hosts):
    """Have the cluster's DNS lead hosts to the edge, and no others."""
    words = ("-n", "kube-system")
    corefile = stack.kubectl(*words, "get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}")
    kept = re.sub(rf" *rewrite name \S+ {re.escape(EDGE)}\n", "", corefile)
    lines = "".join(f"    rewrite name {host} {EDGE}\n" for host in hosts)
    changed = kept.replace(".:53 {\n", f".:53 {{\n{lines}", 1)
    assert changed != kept
    patch = json.dumps({"data": {"Corefile": changed}})
    stack.kubectl(*words, "patch", "configmap", "coredns", "--type=merge", "-p", patch)
    stack.kubectl(*words, "rollout", "restart", "deployment/coredns")
    stack.kubectl(*words, "rollout", "status", "deployment/coredns", "--timeout=180s")


def renew(stack, namespace, name):
    """Ask for a new certificate as cmctl does: https://cert-manager.io/docs/reference/cmctl/#renew"""
    api = kubernetes.client.CustomObjectsApi(stack.api)
    where = (*GROUP, namespace, "certificates", name)
    found = api.get_namespaced_custom_object(*where)
    kept = [each for each in found["status"]["conditions"] if each["type"] != "Issuing"]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "of a test"}
    asked |= {"lastTransitionTime": now, "observedGeneration": found["metadata"]["generation"]}
    found["status"]["conditions"] = [*kept, asked]
    api.replace_namespaced_custom_object_status(*where, found)


def certificate_status(stack, namespace, name):
    """The status of a Certificate."""
    api = kubernetes.client.CustomObjectsApi(stack.api)
    return api.get_namespaced_custom_object(*GROUP, namespace, "certificates", name)["status"]


def stored_certificate(stack, namespace, name):
    """The certificates of a Secret, in PEM form."""
    data = stack.core.read_namespaced_secret(name, namespace).data
    return base64.b64decode(data["tls.crt"]).decode()
