"""Keycloak's start command: how it passes credentials that hold what Keycloak takes for expressions."""

import os
import subprocess

import pytest

from tests.lib.rendering import Role

NAMES = ("KC_BOOTSTRAP_ADMIN_USERNAME", "KC_BOOTSTRAP_ADMIN_PASSWORD", "KC_DB_USERNAME", "KC_DB_PASSWORD")


def evaluated(value):
    """What SmallRye Config makes of a value: "\\$" is a dollar sign, and each other one begins an expression."""
    assert "$" not in value.replace("\\$", ""), "an expression"
    return value.replace("\\$", "$")


@pytest.fixture(scope="module")
def container():
    [stateful_set] = Role("keycloak").render("keycloak.statefulset.yaml.j2")
    return stateful_set["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("value", ["plain", "$$", "${HOME}", "$", "a\\$b", "\\\\$$\\", "&\\&/'\"`id`$(id)", "é€$", ""])
def test_credentials_arrive_as_they_are(container, tmp_path, value):
    kc = tmp_path / "kc.sh"
    kc.write_text("#!/bin/sh\nenv -0\n")
    kc.chmod(0o755)
    command = [word.replace("/opt/keycloak/bin/kc.sh", str(kc)) for word in container["command"]]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | dict.fromkeys(NAMES, value)
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    shown = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    assert {name: evaluated(shown[name]) for name in NAMES} == dict.fromkeys(NAMES, value)


def test_all_credentials_are_handed_over_so(container):
    """A variable from a Secret that the command does not name would be taken for an expression."""
    secret = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert secret == set(NAMES)
