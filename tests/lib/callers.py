"""The stack whose accounts are MLflow's own, and who calls it."""

import contextlib

import requests

from tests.lib import stack as stacks


class Caller:
    """Somebody who calls the server, or nobody in particular.

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
        # Neither a .netrc nor a proxy of this machine.
        self._session.trust_env = False

    def __call__(self, method, path, body=None, **query):
        """The answer to a call of MLflow's API, such as ("GET", "2.0/mlflow/users/current")."""
        url = self.url + (path if path.startswith("/") else f"/api/{path}")
        auth = (self.name, self.password) if self.name else None
        return self._session.request(method, url, json=body, params=query, auth=auth, timeout=60, allow_redirects=False)

    def well(self, method, path, body=None, **query):
        """As above, for a call that has to go well; returns what it says."""
        answer = self(method, path, body, **query)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def at(self, url):
        """The same person at another address."""
        return Caller(url, self.name, self.password)


class BasicStack(stacks.Stack):
    """A stack that is deployed by the tests' inventory and the scenario's."""

    @property
    def anybody(self):
        return Caller(self.mlflow_url)

    @property
    def admin(self):
        """The account of the playbooks, as its Secret has it."""
        found = self.secret(stacks.NAMESPACES["mlflow"], "mlflow-admin")
        return Caller(self.mlflow_url, found["username"], found["password"])

    def switch(self, way, *words):
        """Deploys MLflow with another way to log in."""
        variables = [word for name in (f"mlflow_auth={way}", *words) for word in ("-e", name)]
        done = self.playbook("--tags", "mlflow", *variables)
        assert done.code == 0, done.output[-4000:]
        # A pod that is on its way out still answers the connections that it has.
        stacks.wait_until(lambda: not self._leaving(), 120, "The pods of the other way to log in go")
        return done

    def _leaving(self):
        pods = self.core.list_namespaced_pod(
            stacks.NAMESPACES["mlflow"], label_selector="app.kubernetes.io/name=mlflow"
        )
        return [pod for pod in pods.items if pod.metadata.deletion_timestamp]

    @contextlib.contextmanager
    def each_replica(self):
        """The addresses of all pods of the server."""
        with contextlib.ExitStack() as forwards:
            yield [
                f"http://localhost:{forwards.enter_context(self.forwarded('mlflow', 5000, pod.metadata.name))}"
                for pod in self.ready("mlflow")
            ]

    def as_stock_client(self, script, caller, *arguments):
        """Runs Python in the stock client's environment."""
        done = self.client(script, caller.name, caller.password, *arguments)
        return done.stdout


def create(caller, name):
    """Makes an experiment; returns its id."""
    return caller.well("POST", "2.0/mlflow/experiments/create", {"name": name})["experiment_id"]


def grant(admin, caller, experiment, permission):
    """Gives somebody a permission for an experiment."""
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
