"""A stack that keeps its credentials in Vault."""

import base64
import json
import textwrap

from tests.lib import servers
from tests.lib import stack as stacks

ONE, TWO = "tests-vault-one", "tests-vault-two"
# Not created by the collection: sealing keys, and Secrets of Kubernetes itself.
OTHERS = ("sealed-secrets-key", "default-token")


def sentence(done):
    """Return the failure message of a run, without YAML quoting."""
    message = done.output.partition("msg:")[2].partition("PLAY RECAP")[0]
    return " ".join(message.split()).replace("''", "'")


def credentials(stack):
    """Return the stack's Secrets by namespace and name."""
    return {
        (namespace, secret.metadata.name): {
            key: stacks.Hidden(base64.b64decode(value).decode()) for key, value in (secret.data or {}).items()
        }
        for namespace in stacks.NAMESPACES.values()
        for secret in stack.core.list_namespaced_secret(namespace).items
        if not secret.metadata.name.startswith(OTHERS)
    }


def pods(stack):
    """Return the names of the stack's pods by component."""
    return {component: {pod.metadata.name for pod in stack.pods(component)} for component in stacks.NAMESPACES}


def words(**variables):
    """Return variables as arguments of ansible-playbook."""
    return ["-e", json.dumps(variables)]


class VaultedStack(stacks.Stack):
    """A stack that keeps its credentials in Vault."""

    @property
    def variables(self):
        """The inventories' variables that a test needs, templated by Ansible."""
        names = ("vault_url", "vault_role_id", "kubeconfig_path")
        shown = ", ".join(f"'{name}': {name} | default('')" for name in names)
        path = self.directory / "variables.yml"
        path.write_text(
            textwrap.dedent(f"""
                - hosts: mlflow
                  gather_facts: false
                  tasks:
                    - ansible.builtin.copy:
                        content: "{{{{ {{{shown}}} | to_json }}}}"
                        dest: {self.directory}/variables.json
                        mode: "0600"
            """)
        )
        done = self.playbook(playbook=path)
        assert done.code == 0, done.output
        return json.loads((self.directory / "variables.json").read_text())

    def token_of(self, service_account, namespace="vault"):
        """Return a token of a service account, as its pod would have."""
        return stacks.Hidden(self.kubectl("-n", namespace, "create", "token", service_account).strip())


class Login(stacks.Ensured):
    """A Secret in two namespaces, ensured by the module with the backend vault."""

    def __init__(self, stack, vault, directory):
        self.stack = stack
        self.vault = vault
        self.directory = directory
        self.role_id, self.secret_id = vault.approle()
        self._written = 0

    def options(self, **more):
        """The module's option vault."""
        given = {
            "url": self.vault.url,
            "ca_path": self.vault.ca_path,
            "auth_method": "approle",
            "role_id": self.role_id,
            "secret_id": {"file": self.file(self.secret_id)},
            **more,
        }
        return {name: value for name, value in given.items() if value is not None}

    def file(self, secret):
        """A file with a secret in it."""
        self._written += 1
        path = self.directory / f"secret-{self._written}"
        path.write_text(secret)
        return str(path)

    def ensure(self, *words, backend="vault", vault=None, supplied=None, **more):
        """Run the module; return the result of ansible-playbook."""
        task = {
            "kubeconfig": str(self.stack.kubeconfig),
            "secrets": [
                {
                    "name": "login",
                    "namespaces": [ONE, TWO],
                    "labels": {"team": "ml"},
                    "keys": {"username": {"value": "mlflow"}, "password": {"generate": "password"}},
                }
            ],
            "backend": backend,
            "vault": vault or self.options(),
            **({"supplied": {"login": {"password": {"file": self.file(supplied)}}}} if supplied else {}),
            **more,
        }
        self._written += 1
        playbook = self.directory / f"login-{self._written}.yml"
        playbook.write_text(
            json.dumps([{"hosts": "mlflow", "gather_facts": False, "tasks": [{"mlops.mlflow.credentials": task}]}])
        )
        return self.stack.playbook("--diff", *words, playbook=playbook)

    def sentence(self, done):
        """Return the failure message of a run, without YAML quoting."""
        return sentence(done)

    def values(self, namespace=ONE):
        """Return the values of a namespace's Secret."""
        data = self.stack.core.read_namespaced_secret("login", namespace).data
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def kept(self):
        """Return the entry in Vault and its version."""
        return self.vault.entry("login")

    def everything(self):
        """Return everything that a run could change: the Secrets with their versions, and the entry's versions."""
        listed = [
            [(each.metadata.name, each.metadata.resource_version, each.data) for each in found.items]
            for found in (self.stack.core.list_namespaced_secret(namespace) for namespace in (ONE, TWO))
        ]
        sealed = self.vault.wait()["sealed"]
        return listed, None if sealed else self.versions()

    def versions(self):
        """Return the metadata of each entry below the path, by name."""
        engine = self.vault.client().secrets.kv.v2
        try:
            names = engine.list_secrets(servers.PATH, mount_point=servers.MOUNT)["data"]["keys"]
        except servers.hvac.exceptions.InvalidPath:
            return {}
        return {
            name: engine.read_secret_metadata(f"{servers.PATH}/{name}", mount_point=servers.MOUNT)["data"]
            for name in names
        }

    def clear(self):
        """Remove the Secrets and the entry."""
        for namespace in (ONE, TWO):
            self.stack.kubectl("-n", namespace, "delete", "secret", "login", "--ignore-not-found")
        self.vault.client().secrets.kv.v2.delete_metadata_and_all_versions(
            f"{servers.PATH}/login", mount_point=servers.MOUNT
        )
