"""Runs of site.yml on a stack that is up to date."""

import re
import subprocess

from tests.lib import stack as stacks


def test_check_mode_changes_nothing(stack):
    before = stack.versions()
    run = stack.playbook("--check", "--diff")
    assert run.code == 0, run.output
    assert run.count("changed") == 0, run.output
    assert stack.versions() == before


def test_second_run_changes_nothing(stack):
    before = stack.versions()
    run = stack.playbook("--diff")
    assert run.code == 0, run.output
    assert run.count("changed") == 0, run.output
    assert stack.versions() == before


def test_tags_select_tasks(stack):
    """Each role's name is a tag, and MLflow's finer tags select a part of `mlflow`."""
    counts = {}
    for tag in [*stacks.NAMESPACES, "deployment", "storage", "service"]:
        listed = subprocess.run(
            ["ansible-playbook", *stack.sources, "playbooks/site.yml", "--list-tasks", "--tags", tag],
            cwd=stacks.REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        counts[tag] = listed.count("TAGS:")
    nothing = subprocess.run(
        ["ansible-playbook", *stack.sources, "playbooks/site.yml", "--list-tasks", "--tags", "none-such"],
        cwd=stacks.REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.count("TAGS:")
    assert all(count > nothing for count in counts.values()), (nothing, counts)


def test_manual_change_is_shown_and_reverted_by_site(stack):
    """After scaling MLflow by hand, check mode shows the difference, and a run reverts it."""
    stack.kubectl("-n", "mlflow", "scale", "deployment/mlflow", "--replicas=1")
    seen = stack.playbook("--check", "--diff", "--tags", "mlflow")
    assert seen.count("changed") >= 1, seen.output
    assert re.search(r"^\+\s*replicas: 2", seen.output, re.M), seen.output
    assert stack.apps.read_namespaced_deployment("mlflow", "mlflow").spec.replicas == 1
    done = stack.playbook("--diff", "--tags", "mlflow")
    assert done.code == 0, done.output
    assert done.count("changed") >= 1
    assert stack.apps.read_namespaced_deployment("mlflow", "mlflow").spec.replicas == 2
