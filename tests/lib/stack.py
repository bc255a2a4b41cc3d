"""The running stack under test: its URLs, its users, and access to its pods."""

import base64
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import textwrap
import threading
import time

import access_token
import kubernetes
import quickstart
import yaml

from tests.lib import REPOSITORY

EXAMPLES = REPOSITORY / "docs" / "examples"

NAMESPACES = {
    "sealed_secrets": "sealed-secrets",
    "postgres": "postgres",
    "minio": "minio",
    "keycloak": "keycloak",
    "mlflow": "mlflow",
    "traefik": "traefik",
    "cert_manager": "cert-manager",
    "backup": "mlflow-backup",
}
# Keys of Secrets that are not confidential.
NO_SECRETS = (".crt", "username", "client-id", "token-url", "tracking_uri")
# Updated by the cluster itself.
MOVING = re.compile(r"^(events|leases|endpointslices|endpoints|nodes|componentstatuses|pods)(\.|$)")
ADMIN = quickstart.ADMIN
USER = quickstart.USER


class Hidden(str):
    """A secret string that the report of a failed test does not show."""

    __slots__ = ()

    def __repr__(self):
        return "'(hidden)'"


class NotYetError(Exception):
    """The condition was not met in time."""


def wait_until(condition, timeout, what, interval=0.5):
    """Return the first true value of `condition()`; raise NotYetError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise NotYetError(f"{what}: not within {timeout} s")


@dataclasses.dataclass
class Usage:
    """What a pod uses of its node, in MiB.

    Args:
        memory: its working set, by which the kubelet evicts: all memory except file cache that can be dropped.
        storage: what its containers and emptyDirs on the node's disk hold.
    """

    memory: float
    storage: float


class Background(threading.Thread):
    """A thread that runs during a block: its `run` ends once `done` is set."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_unused):
        self.done.set()
        self.join()


@dataclasses.dataclass
class Playbook:
    """The result of a run of ansible-playbook."""

    code: int
    output: str

    def count(self, what):
        """Return a count of the recap, such as "changed", summed over all hosts."""
        recap = self.output.rpartition("PLAY RECAP")[2]
        return sum(int(word.partition("=")[2]) for word in recap.split() if word.startswith(f"{what}="))


class Stack:
    """A running stack.

    Args:
        directory: the directory with the cluster's kubeconfig, such as build/test.
        inventories: what ansible-playbook reads, in order; the first one has the host.
    """

    def __init__(self, directory, *inventories):
        self.directory = pathlib.Path(directory).resolve()
        self.inventories = [pathlib.Path(each).resolve() for each in inventories]
        self.kubeconfig = self.directory / "kubeconfig"
        # The virtual environment's tools, and the cluster's kubectl if the machine has none.
        path = [pathlib.Path(sys.executable).parent, os.environ.get("PATH", ""), self.directory / "bin"]
        os.environ["PATH"] = os.pathsep.join(map(str, path))

    @property
    def sources(self) -> list[str]:
        """The inventories as words of Ansible's programs."""
        return [word for each in self.inventories for word in ("-i", str(each))]

    @functools.cached_property
    def variables(self):
        """The inventories' variables of the stack, untemplated."""
        command = ["ansible-inventory", *self.sources, "--list"]
        listed = json.loads(subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout)
        return next(iter(listed["_meta"]["hostvars"].values()))

    @property
    def namespaces(self):
        """The namespaces of the components that the inventories deploy, by component."""
        optional = {"traefik", "cert_manager", "backup"}
        deployed = self.variables.get("platform_components", NAMESPACES.keys() - optional)
        return {component: NAMESPACES[component] for component in NAMESPACES if component in deployed}

    @functools.cached_property
    def addresses(self):
        return quickstart.addresses(*self.inventories)

    @property
    def mlflow_url(self):
        return self.addresses[0]

    @property
    def keycloak_url(self):
        return self.addresses[1]

    @functools.cached_property
    def environment(self):
        """The variables in the file `env`, which docs/examples/quickstart.py writes."""
        command = [
            sys.executable,
            EXAMPLES / "quickstart.py",
            *("--directory", self.directory, "--mlflow-url", self.mlflow_url, "--keycloak-url", self.keycloak_url),
            "--skip-example",
        ]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        return {name: Hidden(value) for name, value in quickstart.read_env(self.directory / "env").items()}

    def password(self, user):
        return Hidden(self.environment["DEMO_ADMIN_PASSWORD" if user == ADMIN else "DEMO_USER_PASSWORD"])

    # Kubernetes

    @functools.cached_property
    def api(self):
        return kubernetes.config.new_client_from_config(config_file=str(self.kubeconfig))

    @functools.cached_property
    def core(self):
        return kubernetes.client.CoreV1Api(self.api)

    @functools.cached_property
    def apps(self):
        return kubernetes.client.AppsV1Api(self.api)

    def secret(self, namespace, name):
        """Return a Secret's values."""
        data = self.core.read_namespaced_secret(name, namespace).data
        return {key: Hidden(base64.b64decode(value).decode()) for key, value in data.items()}

    def kubectl(self, *words, check=True, text=None):
        """Run kubectl and return its standard output."""
        command = ["kubectl", "--kubeconfig", self.kubeconfig, *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            # What follows "--" runs in a pod and may contain secrets.
            shown = words[: words.index("--")] if "--" in words else words
            raise RuntimeError(f"kubectl {shlex.join(map(str, shown))} ended with {done.returncode}")
        return done.stdout

    def usage(self):
        """Return the `Usage` of each of the stack's running pods by "namespace/pod", as the kubelet reports it.

        https://kubernetes.io/docs/reference/instrumentation/node-metrics/
        """
        found = {}
        for node in self.core.list_node().items:
            summary = json.loads(
                self.kubectl("get", "--raw", f"/api/v1/nodes/{node.metadata.name}/proxy/stats/summary")
            )
            for pod in summary["pods"]:
                memory = pod.get("memory", {}).get("workingSetBytes", 0)
                storage = pod.get("ephemeral-storage", {}).get("usedBytes", 0)
                place = f"{pod['podRef']['namespace']}/{pod['podRef']['name']}"
                found[place] = Usage(memory / (1 << 20), storage / (1 << 20))
        running = {
            f"{pod.metadata.namespace}/{pod.metadata.name}" for component in NAMESPACES for pod in self.pods(component)
        }
        return {name: found[name] for name in running & found.keys()}

    def pods(self, component):
        """Return the running pods of a component's workloads, oldest first, without pods of Jobs."""
        listed = self.core.list_namespaced_pod(NAMESPACES[component]).items
        return sorted(
            (
                pod
                for pod in listed
                if pod.status.phase == "Running"
                and not pod.metadata.deletion_timestamp
                and all(owner.kind != "Job" for owner in pod.metadata.owner_references or [])
            ),
            key=lambda pod: pod.metadata.creation_timestamp,
        )

    def ready(self, component):
        """Return a component's pods whose containers are all ready."""
        return [
            pod for pod in self.pods(component) if all(status.ready for status in pod.status.container_statuses or [])
        ]

    def execute(self, component, *command, text):
        """Runs a command in a component's first pod, with a text as its standard input; returns its output.

        What only looks into a pod uses the fixture `pod`, which has no standard input.
        """
        pod = self.pods(component)[0].metadata.name
        return self.kubectl("-n", NAMESPACES[component], "exec", "-i", pod, "--", *command, text=text)

    def outcome(self, namespace, job):
        """Wait until a Job has ended; return whether it succeeded, and its log."""

        def ended():
            status = json.loads(self.kubectl("-n", namespace, "get", "job", job, "-o", "json"))["status"]
            return "well" if status.get("succeeded") else "ill" if status.get("failed") else None

        how = wait_until(ended, 600, f"the end of the Job {job} in {namespace}")
        return how == "well", self.kubectl("-n", namespace, "logs", f"job/{job}")

    def example(self, file, namespace, replaced=None):
        """Return the objects of an example in docs/examples/programs for this cluster, with MLflow's image.

        Args:
            file: the file's name.
            namespace: the namespace of the objects.
            replaced: texts of the example and their replacements.
        """
        deployment = self.apps.read_namespaced_deployment("mlflow", NAMESPACES["mlflow"])
        image = deployment.spec.template.spec.containers[0].image
        text = (EXAMPLES / "programs" / file).read_text()
        for word, other in {"registry.example.com/team-a/train:1.0": image, **(replaced or {})}.items():
            assert word in text, f"{file} has no {word}"
            text = text.replace(word, other)
        found = [each for each in yaml.safe_load_all(text) if each]
        for each in found:
            each["metadata"]["namespace"] = namespace
        return found

    def run_example(self, file, namespace, replaced=None):
        """Recreate an example's Job; return the same as `outcome`."""
        (job,) = self.example(file, namespace, replaced)
        name = job["metadata"]["name"]
        self.kubectl("-n", namespace, "delete", "job", name, "--ignore-not-found")
        self.kubectl("apply", "-f", "-", text=json.dumps(job))
        return self.outcome(namespace, name)

    def sql(self, database, statement):
        """Run a statement inside PostgreSQL's pod; return its rows as lists of strings."""
        command = [
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-F",
            "\x1f",
            "-U",
            "postgres",
            "-d",
            database,
        ]
        output = self.execute("postgres", *command, text=statement)
        return [line.split("\x1f") for line in output.splitlines() if line]

    def ca_file(self):
        """Return a file with the certificate of the stack's own CA."""
        found = self.core.read_namespaced_config_map("mlflow-ca", NAMESPACES["mlflow"])
        path = self.directory / "ca.crt"
        path.write_text(found.data["ca.crt"])
        return path

    def s3_key(self):
        """Return MLflow's access key and secret key."""
        found = self.secret(NAMESPACES["mlflow"], "mlflow-s3-secret")
        return found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]

    def _mc(self, words):
        """Run MinIO's client inside its pod, with MLflow's key on standard input."""
        key, secret = self.s3_key()
        script = f"""
            set -e
            scheme=http
            [ ! -d /etc/minio-certs ] || scheme=https
            export MC_HOST_tests=$scheme://{key}:{secret}@localhost:9000 MC_CONFIG_DIR=/tmp/tests-mc
            export SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt
            mc {words}
        """
        return self.execute("minio", "sh", "-s", text=script)

    def objects(self):
        """Return the objects in MLflow's bucket: dictionaries with `key` and `size`."""
        listed = self._mc("ls --recursive --json tests/mlflow/")
        return [json.loads(line) for line in listed.splitlines() if line.startswith("{")]

    def object(self, key):
        """Return the content of an object as text."""
        return self._mc(f"cat {shlex.quote(f'tests/mlflow/{key}')}")

    def versions(self) -> dict[tuple[str, str, str], str]:
        """The resource version of every object in the stack's namespaces, by its kind, namespace and name."""
        listed = self.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        kinds = ",".join(kind for kind in listed if not MOVING.match(kind))
        return {
            (item["kind"], namespace, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
            for namespace in NAMESPACES.values()
            for item in json.loads(self.kubectl("-n", namespace, "get", kinds, "-o", "json"))["items"]
        }

    def everything(self) -> set[str]:
        """Return kind, namespace and name of all objects in the cluster, but for those that change by themselves."""
        listed = self.kubectl("api-resources", "--verbs=list", "-o", "name").split()
        kinds = ",".join(kind for kind in listed if not MOVING.match(kind))
        shown = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name"
        lines = self.kubectl("get", kinds, "-A", "-o", shown, "--no-headers").splitlines()
        return {" ".join(line.split()) for line in lines}

    def secret_values(self):
        """Return the confidential values of all Secrets of the stack, by "namespace/name/key"."""
        values = {}
        for namespace in NAMESPACES.values():
            for secret in self.core.list_namespaced_secret(namespace).items:
                for key, encoded in (secret.data or {}).items():
                    value = base64.b64decode(encoded).decode(errors="replace")
                    if len(value) >= 12 and not key.lower().endswith(NO_SECRETS):
                        values[f"{namespace}/{secret.metadata.name}/{key}"] = Hidden(value)
        return values

    @contextlib.contextmanager
    def forwarded(self, component, port, pod=None):
        """Forward a local port to a component's pod; yield its number."""
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            local = probe.getsockname()[1]
        pod = pod or self.pods(component)[0].metadata.name
        command = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", NAMESPACES[component]]
        with subprocess.Popen(
            [*command, "port-forward", f"pod/{pod}", f"{local}:{port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                wait_until(lambda: not _closed(local), 20, f"a port forwarded to {pod}", 0.1)
                yield local
            finally:
                process.terminate()

    # Ansible

    def playbook(self, *words, playbook="playbooks/site.yml", environment=None):
        """Run a playbook against the stack and return its result."""
        command = ["ansible-playbook", *self.sources, playbook, *map(str, words)]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Playbook(done.returncode, done.stdout)

    # MLflow

    def client(
        self, script, user, token, *arguments, check=True, requirements=quickstart.REQUIREMENTS, environment=None
    ):
        """Run Python as this user, with the example's requirements or others; return the finished process."""
        command = self._client_command(script, arguments, requirements)
        variables = {**self._client_environment(user, token), **(environment or {})}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"the client failed:\n{done.stdout}\n{done.stderr}")
        return done

    def start_client(self, script, user, token, *arguments):
        """Like `client`, but return the running process."""
        command = self._client_command(script, arguments)
        environment = self._client_environment(user, token)
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _client_command(self, script, arguments, requirements=quickstart.REQUIREMENTS):
        return [quickstart.client_python(requirements), "-c", textwrap.dedent(script), *map(str, arguments)]

    def _client_environment(self, user, token):
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": token,
        }

    def login(self, user):
        """Return a `requests` session in which this user is logged in at MLflow."""
        return access_token.login(self.mlflow_url, user, self.password(user))


class Ensured:
    """A test of the module mlops.mlflow.credentials: `ensure` runs it, `everything` is what it could change."""

    def changed(self, *words, **options):
        """Run the module; return whether it changed something, and its output."""
        done = self.ensure(*words, **options)
        assert done.code == 0, done.output
        return done.count("changed") > 0, done.output

    def fails(self, **options):
        """Run the module, which must fail with one sentence and change nothing; return the sentence."""
        before = self.everything()
        done = self.ensure(**options)
        assert done.code != 0
        assert "Traceback" not in done.output
        assert self.everything() == before
        return self.sentence(done)

    def sentence(self, done):
        """Return the failure message of a run."""
        return " ".join(done.output.partition("msg:")[2].split())


def _closed(port):
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
