"""The inventories that users begin with: Ansible reads them, the roles know each variable, and templates render."""

import functools
import json
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from tests.lib import REPOSITORY, rendering
from tests.lib.dry_run import Server

FOLDER = REPOSITORY / "inventory" / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.iterdir())


def variables_of(*sources: str) -> dict[str, Any]:
    """What the one host of the group mlflow has, templated by Ansible."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=list(sources))
    (host,) = inventory.get_hosts("mlflow")
    found = VariableManager(loader=loader, inventory=inventory).get_vars(host=host)
    templar = Templar(loader=loader, variables=found | {"ansible_playbook_python": "python3"})
    # What Ansible itself adds, such as inventory_dir and groups, is none of the inventory's.
    names = found.keys() - magic()
    return json.loads(json.dumps({name: templar.template(found[name]) for name in sorted(names)}))


@functools.cache
def magic() -> frozenset[str]:
    """The variables that Ansible gives to a host of an inventory without any."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=["localhost,"])
    found = VariableManager(loader=loader, inventory=inventory).get_vars(host=inventory.get_host("localhost"))
    return frozenset(found) - {"ansible_connection", "ansible_python_interpreter"}


@functools.cache
def options() -> dict[str, dict[str, Any]]:
    """The roles' public variables, by name, as the argument specs describe them."""
    known: dict[str, dict[str, Any]] = {}
    for path in sorted(rendering.ROLES.glob("*/meta/argument_specs.yml")):
        known |= yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options", {})
    return known


def problems(given: dict[str, Any]) -> list[str]:
    """What the argument specs say against variables: names that no role has, and values of another form."""
    found = [f"{name}: no role has this variable" for name in given if name not in options()]
    for name in given.keys() & options().keys():
        found += ArgumentSpecValidator({name: options()[name]}).validate({name: given[name]}).error_messages
    return found


@functools.cache
def example(name: str) -> dict[str, Any]:
    """The variables of an example that are the roles', without those of the connection."""
    given = variables_of(str(FOLDER / name))
    return {name: value for name, value in given.items() if not name.startswith("ansible_")}


get_role = functools.cache(rendering.Role)


@functools.cache
def manifests(name: str) -> list[dict[str, Any]]:
    """All that the roles apply for an example."""
    given = example(name)
    components = given.get("platform_components", rendering.COMPONENTS)
    roles = [role for role in rendering.COMPONENTS if role in components]
    return [manifest for role in roles for manifest in get_role(role, tuple(roles)).manifests(given)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_roles_know_each_variable(name: str) -> None:
    assert example(name), "Ansible found no variables"
    assert problems(example(name)) == []


def test_a_wrong_variable_is_found() -> None:
    assert problems({"mlflow_replica": 1}) == ["mlflow_replica: no role has this variable"]
    assert problems({"mlflow_auth": "basic", "mlflow_replicas": "2"}) == []
    (message,) = problems({"mlflow_replicas": "many"})
    assert "mlflow_replicas" in message
    assert "nme" in " ".join(problems({"keycloak_users": [{"nme": "ada"}]}))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_template_renders(name: str) -> None:
    assert {"Deployment", "Service"} <= {each["kind"] for each in manifests(name)}
    text = json.dumps(manifests(name))
    assert "{{" not in text
    assert "localhost:30" not in text, "an address of the embedded default"


@pytest.mark.parametrize("name", EXAMPLES)
def test_api_server_accepts_it(server: Server, name: str) -> None:
    refused = {f"{each['kind']} {each['metadata']['name']}": server.apply(each) for each in manifests(name)}
    assert {what: refusal for what, refusal in refused.items() if refusal} == {}
