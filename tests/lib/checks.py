"""Checks variables as a run of site.yml does, in one process and without a cluster: specs, constraints, and tasks."""

import functools

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlops.mlflow.plugins.plugin_utils.constraints import Constraint, check, variable

from tests.lib import rendering


@functools.cache
def _loaded(role, name):
    return yaml.safe_load((rendering.ROLES / role / "meta" / f"{name}.yml").read_text())


def specification(role):
    """The options of a role's entry point `main`."""
    return _loaded(role, "argument_specs")["argument_specs"]["main"]["options"]


def constraints(role):
    """The constraints of a role, by their paths; none where it has no such file."""
    found = (rendering.ROLES / role / "meta" / "constraints.yml").exists() and _loaded(role, "constraints")
    return {path: Constraint(**entry) for path, entry in (found or {}).items()}


def refusal(role, options=None, of=None):
    """What the first step of a role's preflight says that fails, or nothing.

    Args:
        role: a rendering.Role, whose variables are checked.
        options: what an inventory sets.
        of: the role whose checks are meant, if not this one.
    """
    name = of or role.name
    templar = role.templar(options)
    steps = (_by_specification, _by_constraints, _by_tasks)
    return next((message for step in steps if (message := step(name, role, templar, options))), "")


def _by_specification(name, role, templar, options):
    options = specification(name)
    values = {each: templar.evaluate_expression(rendering.trusted(each)) for each in options}
    return "\n".join(ArgumentSpecValidator(options).validate(values, validate_role_argument_spec=True).error_messages)


def _by_constraints(name, role, templar, options):
    known = {
        path: each
        for path, each in constraints(name).items()
        if templar.evaluate_conditional(rendering.trusted(each.when))
    }
    values = {variable(path): templar.evaluate_expression(rendering.trusted(variable(path))) for path in known}
    return "\n".join(check(known, values))


def _by_tasks(name, role, templar, options):
    for task in _tasks(name, "preflight"):
        here = role.templar((options or {}) | task.get("vars", {}))
        conditions = task.get("when", [])
        conditions = conditions if isinstance(conditions, list) else [conditions]
        if not all(here.evaluate_conditional(rendering.trusted(each)) for each in conditions):
            continue
        if "ansible.builtin.fail" in task:
            message = here.template(rendering.trusted(task["ansible.builtin.fail"]["msg"]))
        elif "ansible.builtin.assert" in task and not here.evaluate_conditional(
            rendering.trusted(task["ansible.builtin.assert"]["that"])
        ):
            message = here.template(rendering.trusted(task["ansible.builtin.assert"]["fail_msg"]))
        else:
            continue
        return "\n".join(" ".join(line.split()) for line in message.splitlines())
    return ""


def _tasks(role, file):
    """The tasks of a file, with those of the files that it imports."""
    for task in rendering.tasks_of(role, file):
        if "ansible.builtin.import_tasks" in task:
            yield from _tasks(role, task["ansible.builtin.import_tasks"].removesuffix(".yml"))
        else:
            yield task
