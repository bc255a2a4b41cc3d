"""Wrong inventories fail with the variable, its value and what is allowed, before anything is changed.

The runs use an account that can read everything and change nothing, so that a wrong value that passes is noticed.
"""

import dataclasses
import http.server
import json
import pathlib
import re
import threading

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials import certificates

from tests.lib import stack as stacks

CASES = yaml.safe_load(pathlib.Path(__file__).with_name("cases.yml").read_text())
NAMESPACE = "bad-input"
AT_ONCE = 4
LENGTH = 600  # characters of a message; the longest name all Secrets, and Ansible's own all options

SETUP = """
apiVersion: v1
kind: Namespace
metadata: {name: bad-input}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: bad-input}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bad-input-reader}
rules:
  - {apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bad-input-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bad-input-reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: bad-input}]
---
apiVersion: v1
kind: Secret
metadata: {name: lacking, namespace: bad-input}
stringData: {username: existing, AWS_ACCESS_KEY_ID: existing}
---
apiVersion: v1
kind: Service
metadata: {name: taken, namespace: bad-input}
spec:
  type: NodePort
  selector: {no-pod: has-this}
  ports: [{port: 80, nodePort: 31999}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: bad-input}
provisioner: example.com/absent
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: bad-input}
spec: {controller: example.com/absent}
"""


def certificate_secrets():
    """Return Secrets with certificates that will not do, by name."""
    now = certificates.now()
    past = now - 30 * certificates.DAY

    def issued(host, at=now):
        authority = certificates.issue_authority(certificates.Certificate("bad-input", ca=True, days=300), at)
        wanted = certificates.Certificate(host, (host,), days=20, authority="bad-input/ca")
        bundle = certificates.issue(wanted, authority, at)
        return {key: bundle[key].decode() for key in ("tls.crt", "tls.key")}

    right = issued("login.example.com")
    contents = {
        "other-name": issued("other.example.com"),
        "expired": issued("login.example.com", past),
        "other-key": right | {"tls.key": issued("login.example.com")["tls.key"]},
        "other-type": right,
    }
    return {
        name: {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "type": "Opaque" if name == "other-type" else certificates.TYPE,
            "stringData": content,
        }
        for name, content in contents.items()
    }


class OtherServer(http.server.BaseHTTPRequestHandler):
    """An API server that differs from the tests' cluster, selected by the first part of the path."""

    def do_GET(self):
        kind, _unused, path = self.path.lstrip("/").partition("/")
        path = path.partition("?")[0]
        if kind == "website":
            return self.answer(200, "text/html", b"<h1>It works!</h1>")
        if kind == "unauthorized" and path != "version":
            return self.answer(401, "application/json", json.dumps({"message": "Unauthorized"}).encode())
        minor, patch = ("27", "v1.27.3") if kind == "old" else ("34", "v1.34.0")
        names = [] if kind == "classless" else ["standard"]
        default = {"storageclass.kubernetes.io/is-default-class": "true"}
        found = {
            "version": {"major": "1", "minor": minor, "gitVersion": patch},
            "apis": {"groups": []},
            "apis/storage.k8s.io/v1/storageclasses": {
                "items": [{"metadata": {"name": name, "annotations": default}} for name in names]
            },
        }.get(path, {"items": []})
        return self.answer(200, "application/json", json.dumps(found).encode())

    def answer(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_unused):
        pass


def kubeconfig(server, token="-", certificate=None):  # noqa: S107  no password
    """Return a kubeconfig with one cluster."""
    cluster = {"server": server} | ({"certificate-authority-data": certificate} if certificate else {})
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }
    )


@pytest.fixture(scope="module")
def directory(stack, tmp_path_factory):
    """A directory with the kubeconfigs of the cases."""
    place = tmp_path_factory.mktemp("bad-input")
    secrets = certificate_secrets()
    stack.kubectl("apply", "-f", "-", text=SETUP + "---\n" + yaml.safe_dump_all(secrets.values()))
    for key, value in secrets["other-name"]["stringData"].items():
        (place / key.replace("tls", "other-name")).write_text(value)
    token = stack.kubectl("-n", NAMESPACE, "create", "token", "reader", "--duration=1h").strip()
    real = yaml.safe_load(stack.kubeconfig.read_text())["clusters"][0]["cluster"]
    (place / "reader").write_text(kubeconfig(real["server"], token, real["certificate-authority-data"]))
    (place / "garbage").write_text("hello: world\n")
    (place / "refused").write_text(kubeconfig("http://127.0.0.1:1"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for kind in ("unauthorized", "website", "old", "classless"):
        (place / kind).write_text(kubeconfig(f"http://127.0.0.1:{server.server_port}/{kind}"))
    yield place
    server.shutdown()
    stack.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    stack.kubectl("delete", "clusterrole,clusterrolebinding", "bad-input-reader")
    stack.kubectl("delete", "storageclass,ingressclass", "bad-input")


def filled(value, directory):
    """Return a value of the table with the directory's name filled in."""
    return json.loads(json.dumps(value).replace("{directory}", str(directory)))


@dataclasses.dataclass
class Result:
    """The result of one inventory host."""

    message: str
    counts: dict


def sentences(output):
    """Return the message of the first failed task or item as one line, by inventory host."""
    found = {}
    for failed in re.finditer(r"^(?:fatal|failed): \[([\w-]+)\].*?=> (?={)", output, re.M):
        result, _unused = json.JSONDecoder().raw_decode(output, failed.end())
        found.setdefault(failed.group(1), re.sub(r"\s+", " ", result["msg"]).strip())
    return found


@pytest.fixture(scope="module")
def results(request, stack, directory):
    """The results of the selected cases by name. Each case is an inventory host in a single run of its playbook."""
    wanted = [
        item.callspec.params["case"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    names = {f"case-{index}": case for index, case in enumerate(wanted)}
    common = yaml.safe_load((stacks.REPOSITORY / "inventory/kind/hosts.yml").read_text())["mlflow"]["hosts"]["kind"]
    common |= {"kind_cluster_directory": str(stack.directory), "kubeconfig_path": str(directory / "reader")}
    hosts = {
        # Each case is a separate stack with its own sealed files.
        name: common | {"sealed_secrets_output_dir": str(directory / "sealed" / name)} | filled(case["set"], directory)
        for name, case in names.items()
    }
    messages, counts = {}, {}
    for playbook in sorted({case.get("playbook", "site") for case in wanted}):
        chosen = {name: hosts[name] for name, case in names.items() if case.get("playbook", "site") == playbook}
        (directory / "inventory.yml").write_text(yaml.safe_dump({"mlflow": {"children": {"cases": {"hosts": chosen}}}}))
        run = stack.playbook(
            *("-i", directory / "inventory.yml", "--limit", "cases", "--forks", str(AT_ONCE)),
            playbook=f"playbooks/{playbook}.yml",
            environment={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        )
        assert "Traceback" not in run.output
        messages |= sentences(run.output)
        counts |= {
            host: {what: int(count) for what, count in re.findall(r"(\w+)=(\d+)", figures)}
            for host, figures in re.findall(r"^(case-\d+) +: (.*)$", run.output.rpartition("PLAY RECAP")[2], re.M)
        }
    return {case["name"]: Result(messages.get(host, ""), counts[host]) for host, case in names.items()}


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "-") for case in CASES])
def test_case(case, results, directory):
    result = results[case["name"]]
    print(result.message)
    assert result.counts["failed"] == 1, "it passed"
    assert result.counts["changed"] == 0
    assert "forbid" not in result.message or "403" in case["says"], (
        f"something was about to be changed: {result.message}"
    )
    missing = [each for each in filled(case["says"], directory) if each not in result.message]
    assert not missing, f"{missing} not in: {result.message}"
    assert len(result.message) < LENGTH, result.message


def test_number_of_cases():
    assert len(CASES) >= 30
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_right_inventory_passes_the_same_account(stack, directory):
    """With a correct inventory and nothing to change, the account's runs succeed."""
    done = stack.playbook("-e", f"kubeconfig_path={directory / 'reader'}", "--tags", "none-such")
    assert done.code == 0, done.output
    changed = stack.playbook("-e", f"kubeconfig_path={directory / 'reader'}", "-e", "postgres_namespace=elsewhere")
    assert changed.code != 0
    assert "forbid" in changed.output, changed.output


def test_names_of_the_table_are_variables():
    """A case that sets a variable which no role has would test nothing."""
    known = set()
    for path in (stacks.REPOSITORY / "roles").glob("*/defaults/main.yml"):
        known |= yaml.safe_load(path.read_text()).keys()
    unknown = {name for case in CASES for name in case["set"]} - known
    assert not unknown
