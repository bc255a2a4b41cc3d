# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin credentials, run as ansible-playbook runs it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials import certificates

PASSWORD = "planted-password-of-a-user"
PLAY = """
- hosts: localhost
  gather_facts: false
  connection: {connection}
  vars:
    password: !vault |
      {vaulted}
  environment: {{THE_PASSWORD: "{{{{ password }}}}"}}
  tasks:
    - mlops.mlflow.credentials:
        kubeconfig: kubeconfig
        secrets:
          - {{name: login, namespaces: [one], keys: {{token: {{generate: hex}}, password: {{}}}}}}
        supplied:
          login: {{password: {supplied}}}
      register: ensured
    - ansible.builtin.debug: {{var: ensured}}
"""


@pytest.fixture
def play(tmp_path, kubeconfig):
    """Give a function that runs one task in a play, and gives all that ansible-playbook printed and logged."""

    def run(supplied: str, *words: str, connection: str = "local", text: str = "") -> str:
        vaulted = VaultLib().encrypt(PASSWORD, VaultSecret(b"opens")).decode()
        indented = vaulted.strip().replace("\n", "\n      ")
        text = text or PLAY.format(connection=connection, vaulted=indented, supplied=supplied)
        folder = tmp_path / "playbooks"
        folder.mkdir(exist_ok=True)
        (folder / "play.yml").write_text(text)
        (folder / "kubeconfig").write_text(Path(kubeconfig).read_text())
        (folder / "password.txt").write_text(PASSWORD + "\n")
        (tmp_path / "opens").write_text("opens")
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-i", "localhost,", folder / "play.yml", "--vault-password-file", tmp_path / "opens", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    "supplied",
    ['{value: "{{ password }}"}', "{env: THE_PASSWORD}", "{file: password.txt}"],
    ids=["value", "env", "file"],
)
def test_a_value_gets_into_the_cluster_and_into_no_output(play, cluster, supplied):
    cluster.namespace("one")

    output = play(supplied, "-vvvv", "--diff")

    assert cluster.values("one/login")["password"].decode() == PASSWORD
    assert "changed=1" in output
    for value in cluster.values("one/login").values():
        assert value.decode() not in output
        assert base64.b64encode(value).decode() not in output


AUTHORITY = """
- hosts: localhost
  gather_facts: false
  connection: local
  tasks:
    - mlops.mlflow.credentials:
        kubeconfig: kubeconfig
        secrets:
          - {name: ca, namespaces: [one], type: kubernetes.io/tls, certificate: {common_name: ours, ca: true}}
        supplied:
          ca: {tls.crt: CERTIFICATE, tls.key: {file: tls.key}}
      register: ensured
    - ansible.builtin.debug: {var: ensured.certificates}
"""


@pytest.mark.parametrize("given", ["{file: tls.crt}", """{value: "{{ lookup('file', 'tls.crt') }}"}"""])
def test_a_supplied_certificate_of_a_ca_is_returned_and_its_key_is_not(play, cluster, tmp_path, given):
    cluster.namespace("one")
    asked = certificates.Certificate("ours", ca=True, days=30)
    made = certificates.issue_authority(asked, certificates.now())
    for name in ("tls.crt", "tls.key"):
        (tmp_path / "playbooks").mkdir(exist_ok=True)
        (tmp_path / "playbooks" / name).write_bytes(made[name])

    output = play("", "-vvvv", "--diff", text=AUTHORITY.replace("CERTIFICATE", given))

    assert all(line in output for line in made["tls.crt"].decode().splitlines())
    assert cluster.values("one/ca")["tls.key"] == made["tls.key"].strip()
    assert made["tls.key"].decode().splitlines()[1] not in output


def test_check_mode_writes_nothing(play, cluster):
    cluster.namespace("one")

    assert "changed=1" in play("{env: THE_PASSWORD}", "--check")
    assert cluster.writes() == []


def test_a_failure_says_why_and_no_value(play, cluster):
    cluster.namespace("one")
    cluster.answers["POST /api/v1/namespaces/one/secrets"] = cluster.status(400, "BadRequest", f"bad: {PASSWORD}")

    output = play('{value: "{{ password }}"}', "-vvv")

    assert "Secret one/login cannot be written, the API server answered with 400" in output
    assert PASSWORD not in output


def test_another_host_is_refused(play):
    assert "this runs on the control node, but this host is reached by ssh" in play("{env: HOME}", connection="ssh")
