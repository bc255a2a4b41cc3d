"""The stack with MLflow's own accounts, and its callers."""

import contextlib

import requests

from tests.lib import stack as stacks


class Caller:
    """A caller of the server, authenticated or anonymous.

    Args:
        url: the server.
        name: an account, or None.
        password: its password.
    """

    def __init__(self, url, name=None, password=""):
        self.url = url
        self.name = name
        self.password = password
        self._session = requests.Session()
        # Ignore .netrc and proxies of this machine.
        self._session.trust_env = False

    def __call__(self, method, path, body=None, **query):
        """Return the answer to a call of MLflow's API, such as ("GET", "2.0/mlflow/users/current")."""
        url = self.url + (path if path.startswith("/") else f"/api/{path}")
        auth = (self.name, self.password) if self.name else None
        return self._session.request(method, url, json=body, params=query, auth=auth, timeout=60, allow_redirects=False)

    def well(self, method, path, body=None, **query):
        """Like calling the object, for a call that must succeed; return its JSON."""
        answer = self(method, path, body, **query)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def at(self, url):
        """Return the same caller with another URL."""
        return Caller(url, self.name, self.password)


class BasicStack(stacks.Stack):
    """A stack deployed with the tests' inventory and the scenario's."""

    @property
    def anonymous(self):
        return Caller(self.mlflow_url)

    @property
    def admin(self):
        """The playbooks' account, from its Secret."""
        found = self.secret(stacks.NAMESPACES["mlflow"], "mlflow-admin")
        return Caller(self.mlflow_url, found["username"], found["password"])

    def switch(self, way, *words):
        """Deploy MLflow with another login mode."""
        variables = [word for name in (f"mlflow_auth={way}", *words) for word in ("-e", name)]
        done = self.playbook("--tags", "mlflow", *variables)
        assert done.code == 0, done.output[-4000:]
        # A terminating pod still answers on its open connections.
        stacks.wait_until(lambda: not self._leaving(), 120, "The pods of the other way to log in go")
        return done

    def _leaving(self):
        pods = self.core.list_namespaced_pod(
            stacks.NAMESPACES["mlflow"], label_selector="app.kubernetes.io/name=mlflow"
        )
        return [pod for pod in pods.items if pod.metadata.deletion_timestamp]

    @contextlib.contextmanager
    def each_replica(self):
        """Yield the addresses of all pods of the server."""
        with contextlib.ExitStack() as forwards:
            yield [
                f"http://localhost:{forwards.enter_context(self.forwarded('mlflow', 5000, pod.metadata.name))}"
                for pod in self.ready("mlflow")
            ]

    def as_stock_client(self, script, caller, *arguments):
        """Run Python in the example's environment."""
        done = self.client(script, caller.name, caller.password, *arguments)
        return done.stdout


def create(caller, name):
    """Makes an experiment; returns its id."""
    return caller.well("POST", "2.0/mlflow/experiments/create", {"name": name})["experiment_id"]


def grant(admin, caller, experiment, permission):
    """Grant a user a permission on an experiment."""
    admin.well(
        "POST",
        "3.0/mlflow/users/permissions/grant",
        {
            "username": caller.name,
            "resource_type": "experiment",
            "resource_id": experiment,
            "resource_pattern": experiment,
            "permission": permission,
        },
    )
