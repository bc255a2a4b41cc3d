"""Renders the templates of a role the way its own tasks do: Ansible's engine, the role's defaults and dependencies."""

import functools
import json
import re

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.utils.yaml import from_yaml
from ansible.playbook.play import Play
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workloads import placed

from tests.lib import REPOSITORY

ROLES = REPOSITORY / "roles"
# What role platform makes of a component, and the variables that it reads.
READ = {
    "flows": "__{0}_flows __platform_flow_settings",
    "edge": "__{0}_routes __{0}_certificates {0}_tls_secret __platform_edge_settings",
}
# The roles that apply manifests.
COMPONENTS = ("sealed_secrets", "postgres", "minio", "keycloak", "mlflow", "traefik", "cert_manager", "backup")

# Values that the modules of a run would return.
CLUSTER = {
    "server_version": "v1.34.0",
    "minor": 34,
    "namespaces": ["default", "kube-system"],
    "storage_classes": ["standard", "fast"],
    "default_storage_class": "standard",
    "node_ports": {},
    "services": [],
    "volumes": {},
    "images": {},
    "api_groups": ["apps", "batch"],
    "sealed_secrets_controllers": {},
    "deployments": [],
    "ready": [],
    "sealed_secrets": [],
    "issuers": [],
    "own_issuers": [],
    "certificates": [],
    "cert_manager": "",
    "network_policies": [],
    "ingress_classes": {"nginx": "", "public": "Helm"},
    "default_ingress_class": "",
    "routes": [],
    "monitors": [],
    "gateways": {},
    "gateway_kinds": ["BackendTLSPolicy", "Gateway", "HTTPRoute"],
    "gateway_classes": [],
    "pod_networks": ["10.244.0.0/16"],
    "autoscalers": [],
    "priority_classes": ["system-cluster-critical"],
    "unreadable": [],
}


@functools.cache
def _loader():
    return DataLoader()


class Role:
    """A role of the collection, with its variables as a play sees them.

    Args:
        name: the role's name, without the collection's.
        beside: names of other roles of the play, whose variables are then known.
    """

    def __init__(self, name, beside=()):
        self.name = name
        self.path = ROLES / name
        loader = _loader()
        inventory = InventoryManager(loader=loader, sources=["localhost,"])
        self._manager = VariableManager(loader=loader, inventory=inventory)
        source = {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [{"import_role": {"name": f"mlops.mlflow.{each}"}} for each in (*beside, name)],
        }
        self._play = Play.load(source, variable_manager=self._manager, loader=loader)
        self._host = inventory.get_host("localhost")
        task = next(
            task
            for block in self._play.compile()
            for task in _tasks(block)
            if task._role and task._role.get_name(include_role_fqcn=False) == name
        )
        self._variables = self._manager.get_vars(play=self._play, host=self._host, task=task)
        self._variables |= {"platform_cluster": CLUSTER, "platform_fingerprints": {}, "ansible_check_mode": False}
        self._variables |= {"hostvars": {"localhost": {}}}
        self._variables |= {"ansible_search_path": [str(self.path), str(REPOSITORY)]}
        self.templates = self.value(f"{name}_component")["manifests"]

    def templar(self, options=None):
        """An engine that knows the role's variables, with these options over its defaults."""
        return Templar(loader=_loader(), variables=self._variables | (_loaded(options) if options else {}))

    def value(self, expression, options=None):
        """What an expression is, such as "postgres_memory"."""
        return self.templar(options).evaluate_expression(trusted(expression))

    def template(self, text, options=None):
        """What a text of a task comes to."""
        return self.templar(options).template(trust_as_template(text))

    def render(self, template, options=None):
        """The manifests of one template, as dictionaries; none where it is switched off."""
        text = self.value(f"lookup('ansible.builtin.template', '{template}')", options)
        return [document for document in yaml.safe_load_all(text or "") if document]

    def manifests(self, options=None):
        """The manifests of all templates as rules place them, and what leads to them from outside of the cluster."""
        rendered = [document for template in self.templates for document in self.render(template, options)]
        rendered = placed(rendered, self.name, self.value("platform_workloads", options))
        return rendered + self.edge(options) + self.monitors(options)

    def registered(self, options=None):
        """The component as the role registers it, with what role platform adds."""
        (task, _converge) = tasks_of("platform", "component")
        given = {"platform_component": "{{ " + self.name + "_component }}", "platform_together": True}
        given |= {"ansible_parent_role_paths": [str(self.path)], "platform_run": []}
        added = json.loads(json.dumps(task["vars"]))
        text = task["ansible.builtin.set_fact"]["platform_run"]
        run = json.loads(json.dumps(self.template(text, (options or {}) | given | added)))
        (component,) = self.value("__platform_with_network", (options or {}) | {"platform_run": run})
        return json.loads(json.dumps(component))

    def edge(self, options=None):
        """What leads to the role's pods from outside of the cluster."""
        return self._with_network("{}, __platform_edge_settings", options)["edge_objects"]

    def monitors(self, options=None):
        """The PodMonitors of the role's pods."""
        added = "mlops.mlflow.with_monitors(__platform_monitor_settings, [])"
        return self.value(f"[{self.name}_component] | {added}", options)[0]["monitor_objects"]

    def policies(self, options=None):
        """The NetworkPolicies of the role's flows, as role platform makes them."""
        settings = "__platform_edge_settings | combine({'kind': '', 'tls': 'none', 'internal_tls': 'none'})"
        # Settings of the edge name it, and no flow does.
        options = {"platform_gateway": {"name": "public", "namespace": "edge"}} | (options or {})
        return self._with_network(f"__platform_flow_settings, {settings}", options)["policies"]

    def _with_network(self, settings, options):
        """The component with what role platform adds for these settings, of flows and of the edge."""
        added = f"mlops.mlflow.with_network({settings}, platform_cluster)"
        return self.value(f"[{self.name}_component] | {added}", options)[0]

    def options_of(self, template):
        """The public variables that a template, or "flows" or "edge", read themselves or through other variables."""
        known = {}
        for name in ("platform", self.name):
            for room in ("defaults", "vars"):
                known |= yaml.safe_load((ROLES / name / room / "main.yml").read_text())
        file = self.path / "templates" / template
        text = file.read_text() if file.exists() else READ[template].format(self.name)
        found, unread = set(), _words(text) & known.keys()
        while unread:
            name = unread.pop()
            found.add(name)
            unread |= (_words(str(known[name])) & known.keys()) - found
        return {name for name in found if not name.startswith("__")}


def pod_template(document):
    """The template of a workload's pods, or None for what is no workload."""
    spec = document.get("spec", {})
    return (spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec).get("template")


def _words(text):
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))


@functools.cache
def tasks_of(role, file):
    """The tasks of a role's file, as they are written."""
    return yaml.safe_load((ROLES / role / "tasks" / f"{file}.yml").read_text())


def _tasks(block):
    for task in block.block:
        if hasattr(task, "block"):
            yield from _tasks(task)
        else:
            yield task


def trusted(text):
    """A text, or what is none, as a file of the collection would hold it."""
    return trust_as_template(text) if isinstance(text, str) else text


def _loaded(options):
    """Options as an inventory file would hold them."""
    return from_yaml(data=trust_as_template(yaml.safe_dump(options, allow_unicode=True)))
