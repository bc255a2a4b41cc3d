"""A stack with oauth2-proxy in front: its users, its programs, and the proxy itself."""

import base64
import contextlib
import glob
import json
import os
import shutil
import subprocess
import textwrap
import urllib.parse

import access_token
import requests

from tests.lib import CACHE
from tests.lib import stack as stacks

NAMESPACE = stacks.NAMESPACES["mlflow"]
PROXY = "app.kubernetes.io/name=mlflow-oauth2-proxy"
KEYS = "mlflow-oauth2-proxy-keys"
CURRENT = "/api/2.0/mlflow/users/current"
TIMEOUT = 60


def find_proxy():
    """Return the path of oauth2-proxy, built by the scenario or installed on the machine, or None."""
    built = sorted(glob.glob(f"{CACHE}/out/*/oauth2-proxy"), key=os.path.getmtime)
    return built[-1] if built else shutil.which("oauth2-proxy")


class ProxiedStack(stacks.Stack):
    """A stack with oauth2-proxy in front."""

    @property
    def api_url(self):
        """The URL of MLflow for programs."""
        port = self.core.read_namespaced_service("mlflow-api", NAMESPACE).spec.ports[0].node_port
        return f"http://{urllib.parse.urlsplit(self.mlflow_url).hostname}:{port}"

    def password(self, user):
        return self.secret(stacks.NAMESPACES["keycloak"], "keycloak-users")[user]

    @property
    def administrator(self):
        """Name and password of the playbooks' account."""
        found = self.secret(NAMESPACE, "mlflow-admin")
        return str(found["username"]), str(found["password"])

    @property
    def bridge_password(self):
        return self.secret(NAMESPACE, KEYS)["bridge-password"]

    def proxies(self):
        """Return the names of oauth2-proxy's ready pods."""
        listed = self.core.list_namespaced_pod(NAMESPACE, label_selector=PROXY).items
        return [
            pod.metadata.name
            for pod in listed
            if not pod.metadata.deletion_timestamp and all(each.ready for each in pod.status.container_statuses or [])
        ]

    def configuration(self):
        """oauth2-proxy's alpha configuration and arguments."""
        alpha = self.core.read_namespaced_config_map("mlflow-oauth2-proxy", NAMESPACE).data["alpha.yaml"]
        deployment = self.apps.read_namespaced_deployment("mlflow-oauth2-proxy", NAMESPACE)
        return json.loads(alpha), list(deployment.spec.template.spec.containers[0].args)

    def sign_in(self, user, url=None, session=None):
        """Log a user in through oauth2-proxy at `url`; return the session and the answer to the callback."""
        return sign_in(self.mlflow_url, user, self.password(user), url, session)

    def administrate(self, method, path, body):
        """Call MLflow as the playbooks' account."""
        answer = requests.request(
            method, f"{self.api_url}/api/2.0/mlflow/{path}", json=body, auth=self.administrator, timeout=TIMEOUT
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def account(self, user):
        """Return an account as an administrator sees it, or None."""
        listed = requests.get(
            f"{self.api_url}/api/2.0/mlflow/users/get",
            params={"username": user},
            auth=self.administrator,
            timeout=TIMEOUT,
        )
        return listed.json()["user"] if listed.status_code == 200 else None

    def keycloak(self, method, path, body=None):
        """Call Keycloak's admin API for the realm."""
        admin = self.secret(stacks.NAMESPACES["keycloak"], "keycloak-admin")
        token = requests.post(
            f"{self.keycloak_url}/realms/master/protocol/openid-connect/token",
            data={
                "grant_type": "password",
                "client_id": "admin-cli",
                "username": str(admin["username"]),
                "password": str(admin["password"]),
            },
            timeout=TIMEOUT,
        ).json()["access_token"]
        answer = requests.request(
            method,
            f"{self.keycloak_url}/admin/realms/mlflow/{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def keycloak_user(self, name):
        return self.keycloak("GET", f"users?exact=true&username={name}")[0]


def sign_in(public_url, user, password, url=None, session=None):
    """Log in as a browser does, from oauth2-proxy to Keycloak and back.

    Args:
        public_url: the URL of Keycloak's redirects.
        user: the user name at Keycloak.
        password: the user's password.
        url: the URL of the proxy, if not the public one.
        session: a session to reuse.

    Returns:
        The session, and the answer to the callback.
    """
    url = url or public_url
    session = session or access_token.new_session()
    page = session.get(f"{url}/oauth2/start", params={"rd": "/back"}, timeout=TIMEOUT)
    form = access_token._Form()
    form.feed(page.text)
    assert form.action, f"{page.url.split('?')[0]} answered {page.status_code} and no login form"
    answer = session.post(
        form.action,
        data={**form.fields, "username": user, "password": str(password)},
        timeout=TIMEOUT,
        allow_redirects=False,
    )
    place = answer.headers.get("Location", "")
    assert place.startswith(f"{public_url}/oauth2/callback"), f"Keycloak answered {answer.status_code}, no redirect"
    return session, session.get(url + place.removeprefix(public_url), timeout=TIMEOUT, allow_redirects=False)


def free_port():
    with contextlib.closing(stacks.socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(folder, configuration, secrets, upstream, *, environment=None, replaced=()):
    """Run oauth2-proxy locally with the pods' configuration, except for addresses and paths.

    Args:
        folder: an empty directory.
        configuration: the alpha configuration, and the command's arguments.
        secrets: contents of the files below /etc/oauth2-proxy, by their paths there.
        upstream: the upstream URL in place of MLflow's.
        environment: the program's environment variables.
        replaced: pairs of an address in the configuration and its local replacement.

    Yields:
        The proxy's URL.
    """
    port = free_port()
    for name, content in secrets.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))
    alpha, arguments = json.loads(json.dumps(configuration))
    alpha["server"]["bindAddress"] = f"127.0.0.1:{port}"
    alpha["metricsServer"]["bindAddress"] = "-"
    alpha["upstreamConfig"]["upstreams"][0]["uri"] = upstream
    text = json.dumps(alpha)
    for old, new in [*replaced, ("/etc/oauth2-proxy", str(folder))]:
        text = text.replace(old, new)
    file = folder / "configuration" / "alpha.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    command = [find_proxy(), *(word.replace("/etc/oauth2-proxy", str(folder)) for word in arguments)]
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env={"PATH": "/usr/bin", **(environment or {})}
        )
        url = f"http://127.0.0.1:{port}"
        try:

            def answers():
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(requests.ConnectionError):
                    return requests.get(f"{url}/ping", timeout=5).ok

            stacks.wait_until(answers, 30, "oauth2-proxy", 0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def checked(folder, configuration, secrets, environment=None):
    """Let oauth2-proxy validate a configuration; return its exit code and output."""
    alpha, arguments = configuration
    for name, content in secrets.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))
    file = folder / "configuration" / "alpha.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(alpha).replace("/etc/oauth2-proxy", str(folder)))
    command = [find_proxy(), "--config-test", *(word.replace("/etc/oauth2-proxy", str(folder)) for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment or {})
    return done.returncode, textwrap.dedent(done.stdout + done.stderr)


def basic(header):
    """Return name and password of a header `Basic`."""
    scheme, _unused, content = header.partition(" ")
    assert scheme == "Basic"
    name, _unused, password = base64.b64decode(content).decode().partition(":")
    return name, password


def query(url):
    """Return the query parameters of a URL."""
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
