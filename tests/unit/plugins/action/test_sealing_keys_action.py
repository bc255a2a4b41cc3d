# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin sealing_keys: between a cluster and a file, and nothing anywhere else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import VaultSecret, VaultSecretsContext
from ansible_collections.mlops.mlflow.plugins.action import sealing_keys as action
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import BACKED_UP, KEY_LABEL
from ansible_collections.mlops.mlflow.plugins.modules import sealing_keys as reference
from ansible_collections.mlops.mlflow.plugins.plugin_utils import local_action
from ansible_collections.mlops.mlflow.plugins.plugin_utils.sealing_keys import RESTORED, SealingKeysError

NAMESPACE = "/api/v1/namespaces/sealed-secrets"
DEPLOYMENT = "/apis/apps/v1/namespaces/sealed-secrets/deployments/sealed-secrets-controller"
CERTIFICATE = f"GET {NAMESPACE}/services/http:sealed-secrets-controller:http/proxy/v1/cert.pem"


@pytest.fixture
def password(monkeypatch):
    """The vault password that ansible-playbook was given; returns a function that gives others."""

    def give(*secrets):
        monkeypatch.setattr(VaultSecretsContext, "_current", VaultSecretsContext(list(secrets)))

    give(("default", VaultSecret(b"one")))
    return give


@pytest.fixture
def messages(monkeypatch):
    """Lines of progress and warnings."""
    lines: list[str] = []
    monkeypatch.setattr(local_action.display, "display", lambda text, color=None: lines.append(text[13:]))
    monkeypatch.setattr(action.display, "warning", lambda text: lines.append(f"warning: {text}"))
    return lines


@pytest.fixture
def path(tmp_path):
    """The file."""
    return tmp_path / "keys.vault.yml"


@pytest.fixture
def act(kubeconfig, path, password, messages):
    """A function that acts as a task would."""

    def do(state, check=False, task_vars=None, **options):
        module = action.ActionModule.__new__(action.ActionModule)
        module._task = SimpleNamespace(check_mode=check, diff=True)
        module._loader = SimpleNamespace(get_basedir=lambda: "/")
        defaults = {name: option.get("default") for name, option in action.ActionModule.ARGUMENTS.items()}
        given = {"kubeconfig": kubeconfig, "path": str(path), "wait_timeout": 2, **options}
        return module.act({**defaults, "state": state, **given}, task_vars or {})

    return do


@pytest.fixture
def hold(cluster, sealing_secrets):
    """A function that puts keys, given by their numbers, into the cluster."""

    def put(*numbers):
        cluster.namespace("sealed-secrets")
        for number in numbers:
            secret = deepcopy(sealing_secrets[number - 1])
            cluster.store(f"{NAMESPACE}/secrets/{secret['metadata']['name']}", secret)

    return put


@pytest.fixture
def controller(cluster):
    """A function that puts a controller into the cluster, which reads keys when it starts, and begins at some time.

    Its pods have an end of their own, and it serves the newest certificate of the keys that it has read.
    """

    def start(began="2026-01-01T00:00:00Z", takes=1, lingers=0):
        cluster.namespace("sealed-secrets")
        cluster.store(DEPLOYMENT, {"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "controller"}}}})
        state = SimpleNamespace(pods=0, read=[], requests=0)
        listing = f"GET {NAMESPACE}/pods"

        def pod(**when):
            state.pods += 1
            name = f"controller-{state.pods}"
            found = {each["metadata"]["name"]: each["data"] for each in secrets(cluster).values()}
            state.read = [found[each]["tls.crt"] for each in sorted(found)]
            state.requests = 0
            path = f"{NAMESPACE}/pods/{name}"
            cluster.store(path, {"metadata": {"labels": {"app": "controller"}, **when}, "status": {"phase": "Running"}})

            looks = []

            def linger():
                looks.append(1)
                if len(looks) > lingers:
                    del cluster.answers[listing]
                    del cluster.objects[path]
                    pod()
                return cluster.serve("GET", f"{NAMESPACE}/pods", b"", "")

            def end():
                cluster.answers[listing] = linger
                return 200, {"kind": "Pod"}

            cluster.answers[f"DELETE {path}"] = end

        def certificate():
            state.requests += 1
            if state.requests <= takes or not state.read:
                return cluster.status(503, "ServiceUnavailable", "no endpoints available")
            return 200, base64.b64decode(state.read[-1])

        cluster.answers[CERTIFICATE] = certificate
        pod(creationTimestamp=began)
        return state

    return start


def secrets(cluster):
    """The keys in the cluster, by name."""
    below = f"{NAMESPACE}/secrets/"
    return {path[len(below) :]: thing for path, thing in cluster.objects.items() if path.startswith(below)}


def annotation(cluster, name, which):
    return (secrets(cluster)[name]["metadata"].get("annotations") or {}).get(which)


# --- exported ---------------------------------------------------------------------------------------------------------


def test_keys_are_backed_up_once(act, cluster, hold, path, messages):
    hold(1, 2)
    done = act("exported")
    assert done["changed"]
    assert done["path"] == str(path)
    assert (done["added"], done["kept"], done["only_in_backup"]) == (["key-1", "key-2"], [], [])
    assert [each["not_before"] for each in done["sealing_keys"]] == ["2021-01-01T00:00:00Z", "2022-01-01T00:00:00Z"]
    assert messages == [f"2 sealing keys are added to {path}"]
    when = done["sealing_keys"][0]["backed_up"]
    assert when
    assert annotation(cluster, "key-1", BACKED_UP) == annotation(cluster, "key-2", BACKED_UP) == when

    before, cluster.requests = path.stat(), []
    again = act("exported")
    assert not again["changed"]
    assert (again["added"], again["kept"]) == ([], ["key-1", "key-2"])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert cluster.writes() == []


def test_a_new_key_is_added(act, cluster, hold, path):
    hold(1)
    act("exported")
    hold(3)
    done = act("exported")
    assert (done["changed"], done["added"], done["kept"]) == (True, ["key-3"], ["key-1"])
    assert done["diff"]["before"].count("\n") == 1
    assert [line.split()[0] for line in done["diff"]["after"].splitlines()] == ["key-1", "key-3"]


def test_a_backup_is_never_made_smaller(act, cluster, hold):
    hold(1, 2)
    act("exported")
    del cluster.objects[f"{NAMESPACE}/secrets/key-1"]
    done = act("exported")
    assert not done["changed"]
    assert done["only_in_backup"] == ["key-1"]
    hold(3)
    done = act("exported")
    assert [each["name"] for each in done["sealing_keys"]] == ["key-1", "key-2", "key-3"]
    assert done["only_in_backup"] == ["key-1"]


def test_a_note_that_was_not_written_is_written_later(act, cluster, hold, path):
    hold(1)
    cluster.answers[f"PATCH {NAMESPACE}/secrets/key-1"] = cluster.status(403, "Forbidden", "no")
    with pytest.raises(
        SealingKeysError, match=r"the keys are in the file, but .* cannot be annotated .* with 403: the right"
    ):
        act("exported")
    assert path.exists()
    cluster.answers.clear()
    done = act("exported")
    assert (done["changed"], done["added"]) == (True, [])
    assert annotation(cluster, "key-1", BACKED_UP) == done["sealing_keys"][0]["backed_up"]


def test_another_file_is_whole_too(act, cluster, hold, tmp_path):
    hold(1, 2)
    act("exported")
    earlier = "2020-02-02T02:02:02Z"
    cluster.objects[f"{NAMESPACE}/secrets/key-1"]["metadata"]["annotations"][BACKED_UP] = earlier
    done = act("exported", path=str(tmp_path / "new" / "second.vault.yml"))
    assert done["added"] == ["key-1", "key-2"]
    assert annotation(cluster, "key-1", BACKED_UP) == done["sealing_keys"][0]["backed_up"] > earlier
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_retired_and_unlabelled_keys_are_kept_too(act, cluster, hold, messages):
    hold(1, 2)
    cluster.objects[f"{NAMESPACE}/secrets/key-1"]["metadata"]["labels"][KEY_LABEL] = "compromised"
    old = cluster.objects.pop(f"{NAMESPACE}/secrets/key-2")
    old["metadata"] = {"name": "sealed-secrets-key"}
    cluster.store(f"{NAMESPACE}/secrets/sealed-secrets-key", old)
    cluster.secret("sealed-secrets/not-ours", {"tls.key": b"x"})
    done = act("exported")
    assert [(each["name"], each["state"]) for each in done["sealing_keys"]] == [
        ("key-1", "compromised"),
        ("sealed-secrets-key", "active"),
    ]


def test_what_is_no_key_is_warned_of(act, cluster, hold, messages):
    hold(1)
    cluster.secret("sealed-secrets/broken", {"tls.key": b"x"}, metadata={"labels": {KEY_LABEL: "active"}})
    assert act("exported")["added"] == ["key-1"]
    assert messages[0].startswith(
        "warning: not backed up: Secret sealed-secrets/broken is no sealing key: it lacks tls.crt; a controller"
    )


def test_nothing_to_back_up(act, cluster, hold, path):
    with pytest.raises(SealingKeysError) as failure:
        act("exported")
    assert str(failure.value) == (
        "namespace sealed-secrets of the cluster holds no sealing keys: set sealed_secrets_namespace to the "
        "controller's, and run site.yml first"
    )
    hold(1)
    act("exported")
    cluster.objects.clear()
    with pytest.raises(SealingKeysError, match=r"still holds 1: playbooks/sealing_keys_restore.yml brings them back$"):
        act("exported")


@pytest.mark.parametrize("content", [b"", b"kind: List\n", b"$ANSIBLE_VAULT;1.1;AES256\n6162\n"])
def test_what_cannot_be_opened_is_never_overwritten(act, cluster, hold, path, content):
    hold(1)
    path.write_bytes(content)
    with pytest.raises(SealingKeysError, match=r"left alone|damaged"):
        act("exported")
    assert path.read_bytes() == content
    assert cluster.writes() == []


def test_another_password_overwrites_nothing(act, hold, path, password):
    hold(1)
    act("exported")
    before = path.read_bytes()
    hold(2)
    password(("default", VaultSecret(b"another")))
    with pytest.raises(SealingKeysError, match="cannot be opened"):
        act("exported")
    password()
    with pytest.raises(SealingKeysError, match="no vault password was given"):
        act("exported")
    assert path.read_bytes() == before


def test_check_mode_backs_nothing_up(act, cluster, hold, path, messages):
    hold(1)
    done = act("exported", check=True, path=str(path.parent / "new" / "file"))
    assert (done["changed"], done["added"]) == (True, ["key-1"])
    assert done["diff"]["after"].startswith("key-1 (active, certificate ")
    assert messages[0].startswith("1 sealing key would be added to")
    assert not (path.parent / "new").exists()
    assert cluster.writes() == []


def test_check_mode_finds_what_would_fail(act, cluster, hold, path, password):
    hold(1)
    with pytest.raises(SealingKeysError, match="this is a folder, and must be a file"):
        act("exported", check=True, path=str(path.parent))
    password()
    with pytest.raises(SealingKeysError, match=r"^no vault password was given"):
        act("exported", check=True)
    assert cluster.requests == []


@pytest.mark.parametrize("place", ["inventory/keys", "inventory/deeper/keys", "inventory/group_vars/all/keys"])
def test_a_file_in_an_inventory_is_refused(act, tmp_path, place):
    """Ansible would open it, and warn of its lines."""
    (tmp_path / "inventory").mkdir()
    given = {"ansible_inventory_sources": [str(tmp_path / "inventory")]}
    with pytest.raises(SealingKeysError, match=r"Ansible reads every file in .*, so choose another folder$"):
        act("exported", task_vars=given, path=str(tmp_path / place))


def test_a_file_beside_an_inventory_file_is_fine(act, hold, tmp_path):
    hold(1)
    (tmp_path / "inventory.yml").touch()
    given = {"ansible_inventory_sources": [str(tmp_path / "inventory.yml")], "playbook_dir": str(tmp_path)}
    assert act("exported", task_vars=given)["changed"]
    with pytest.raises(SealingKeysError, match=r"reads every file in .*/host_vars as"):
        act("exported", task_vars=given, path=str(tmp_path / "host_vars" / "x"))


def test_an_unknown_error_says_nothing_of_values(act, hold, monkeypatch):
    hold(1)

    def fails(*_arguments):
        raise RuntimeError("a key")

    monkeypatch.setattr(action.sealing_keys, "merged", fails)
    with pytest.raises(AnsibleActionFail) as failure:
        act("exported")
    assert "RuntimeError, not shown since it may hold a key" in str(failure.value)
    assert failure.value.__cause__ is None


# --- imported ---------------------------------------------------------------------------------------------------------


def test_an_empty_cluster_gets_everything(act, cluster, hold, messages):
    hold(1, 2)
    act("exported")
    before = {name: thing["data"] for name, thing in secrets(cluster).items()}
    cluster.objects.clear()
    cluster.requests.clear()
    done = act("imported", namespace_labels={"owner": "platform"})
    assert done["changed"]
    assert done["added"] == ["key-1", "key-2"]
    assert (done["restarted"], done["namespace_created"]) == (False, True)
    assert {name: thing["data"] for name, thing in secrets(cluster).items()} == before
    assert {thing["type"] for thing in secrets(cluster).values()} == {"kubernetes.io/tls"}
    assert {thing["metadata"]["labels"][KEY_LABEL] for thing in secrets(cluster).values()} == {"active"}
    assert cluster.objects[NAMESPACE]["metadata"]["labels"] == {"owner": "platform"}
    assert annotation(cluster, "key-1", BACKED_UP), "site.yml would remind of a backup that there is"
    assert messages[-1] == "2 sealing keys are restored in namespace sealed-secrets"

    cluster.requests.clear()
    again = act("imported")
    assert (again["changed"], again["added"], again["kept"]) == (False, [], ["key-1", "key-2"])
    assert cluster.writes() == []
    assert not act("exported")["changed"], "what is restored is backed up already"


def test_another_namespace(act, cluster, hold):
    hold(1)
    act("exported")
    done = act("imported", namespace="elsewhere")
    assert done["namespace_created"]
    restored = cluster.objects["/api/v1/namespaces/elsewhere/secrets/key-1"]
    assert restored["metadata"]["namespace"] == "elsewhere"


def test_a_running_controller_starts_again(act, cluster, hold, controller):
    hold(1, 2)
    act("exported")
    cluster.objects.clear()
    hold(3)
    state = controller()
    done = act("imported")
    assert (done["added"], done["restarted"]) == (["key-1", "key-2"], True)
    assert [each["name"] for each in done["sealing_keys"]] == ["key-1", "key-2", "key-3"]
    assert state.pods == 2
    assert len(state.read) == 3
    assert [each for each in cluster.writes() if "deployments" in each] == [], "site.yml would find another template"
    again = act("imported")
    assert (again["changed"], again["restarted"], state.pods) == (False, False, 2)


def test_a_pod_that_ends_slowly_is_waited_for(act, cluster, hold, controller):
    """It still serves its certificate, and knows nothing of the keys."""
    hold(1)
    act("exported")
    cluster.objects.clear()
    hold(3)
    state = controller(takes=0, lingers=2)
    assert act("imported", wait_timeout=10)["restarted"]
    assert state.pods == 2
    assert len(state.read) == 2


def test_a_certificate_of_no_key_is_not_enough(act, cluster, hold, controller, sealing_secrets):
    hold(1)
    act("exported")
    cluster.objects.clear()
    controller()
    cluster.answers[CERTIFICATE] = 200, base64.b64decode(sealing_secrets[1]["data"]["tls.crt"])
    with pytest.raises(SealingKeysError, match=r"\(it serves the certificate of a key that is not there\)"):
        act("imported", wait_timeout=1)


def test_a_restore_that_was_interrupted_is_finished(act, cluster, hold, controller, monkeypatch):
    hold(1)
    act("exported")
    cluster.objects.clear()
    state = controller(began="2026-01-01T00:00:00Z")
    with monkeypatch.context() as broken:
        broken.setattr(action.sealing_keys.Workload, "restart", lambda _self: 1 / 0)
        with pytest.raises(AnsibleActionFail, match="ZeroDivisionError"):
            act("imported")
    assert annotation(cluster, "key-1", RESTORED)
    assert state.read == []
    done = act("imported")
    assert (done["added"], done["restarted"], done["changed"]) == ([], True, True)
    assert len(state.read) == 1
    assert not act("imported")["changed"]


def test_a_controller_that_made_a_newer_key_since_is_left_alone(act, cluster, hold, controller):
    """Renewal makes keys that are younger than the pod, too."""
    hold(1)
    act("exported")
    controller(began="2026-01-01T00:00:00Z")
    hold(2)
    assert not act("imported")["restarted"]


def test_a_controller_that_does_not_serve(act, cluster, hold, controller):
    hold(1)
    act("exported")
    cluster.objects.clear()
    controller(takes=1000)
    with pytest.raises(SealingKeysError) as failure:
        act("imported", wait_timeout=1)
    assert str(failure.value).startswith(
        "the keys are restored, but the controller "
        "sealed-secrets/sealed-secrets-controller does not serve with them after 1 s (the Sealed Secrets controller "
    )
    cluster.objects.clear()
    controller(takes=1000)
    cluster.requests.clear()
    assert act("imported", wait=False)["restarted"]
    assert cluster.requests[-1] == f"DELETE {NAMESPACE}/pods/controller-1"


def test_a_controller_that_is_scaled_to_nothing(act, cluster, hold, controller):
    hold(1)
    act("exported")
    cluster.objects.clear()
    controller()
    cluster.objects[DEPLOYMENT]["spec"]["replicas"] = 0
    done = act("imported")
    assert (done["added"], done["restarted"]) == (["key-1"], False)


def test_a_name_that_another_key_has(act, cluster, hold, sealing_secrets):
    hold(1, 2)
    act("exported")
    cluster.objects.clear()
    other = deepcopy(sealing_secrets[2])
    other["metadata"]["name"] = "key-2"
    cluster.namespace("sealed-secrets")
    cluster.store(f"{NAMESPACE}/secrets/key-2", other)
    cluster.requests.clear()
    with pytest.raises(SealingKeysError) as failure:
        act("imported")
    assert str(failure.value) == (
        "Secret sealed-secrets/key-2 is there and holds something else than the backup does: nothing was changed; "
        "keep it under another name, or delete it, then run this again"
    )
    assert cluster.writes() == []


def test_a_key_that_is_there_under_another_name(act, cluster, hold):
    hold(1)
    act("exported")
    moved = cluster.objects.pop(f"{NAMESPACE}/secrets/key-1")
    moved["metadata"]["name"] = "moved"
    cluster.store(f"{NAMESPACE}/secrets/moved", moved)
    done = act("imported")
    assert (done["changed"], done["kept"]) == (False, ["key-1"])


def test_another_writer_restores_at_the_same_time(act, cluster, hold):
    hold(1)
    act("exported")
    stored = cluster.objects.pop(f"{NAMESPACE}/secrets/key-1")

    def meanwhile(method, path):
        if method == "POST":
            cluster.objects[f"{path}/key-1"] = stored

    cluster.before = meanwhile
    assert act("imported")["added"] == ["key-1"]


def test_check_mode_restores_nothing(act, cluster, hold, controller, messages):
    hold(1)
    act("exported")
    cluster.objects.clear()
    done = act("imported", check=True)
    assert (done["changed"], done["added"], done["namespace_created"]) == (True, ["key-1"], True)
    controller()
    cluster.requests.clear()
    done = act("imported", check=True)
    assert (done["changed"], done["restarted"]) == (True, True)
    assert done["diff"]["before"] == ""
    assert done["diff"]["after"].startswith("key-1 (active")
    assert messages[-1] == "1 sealing key would be restored in namespace sealed-secrets"
    assert cluster.writes() == []


def test_no_file(act, path):
    with pytest.raises(SealingKeysError) as failure:
        act("imported")
    assert str(failure.value) == f"sealed_secrets_keys_file is '{path}': there is no such file"


@pytest.mark.parametrize(
    ("status", "end"), [(422, "with 422"), (403, "'create' on secrets is needed in that namespace")]
)
def test_a_server_that_refuses_a_key_is_not_quoted(act, cluster, hold, status, end):
    hold(1)
    act("exported")
    value = cluster.objects.pop(f"{NAMESPACE}/secrets/key-1")["data"]["tls.key"]
    cluster.answers[f"POST {NAMESPACE}/secrets"] = cluster.status(status, "Invalid", f"data: {value}")
    with pytest.raises(SealingKeysError, match=rf"cannot be created, the API server answered .*{end}$") as failure:
        act("imported")
    assert value not in str(failure.value)


def test_a_cluster_that_does_not_answer(act, hold, cluster, tmp_path):
    with pytest.raises(SealingKeysError, match=r"^The sealing keys are not backed up: kubeconfig_path is '.*/none'"):
        act("exported", kubeconfig=str(tmp_path / "none"))


# --- as Ansible runs it -----------------------------------------------------------------------------------------------

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Keep or bring back
      mlops.mlflow.sealing_keys:
        state: "{{ state }}"
        path: "{{ file }}"
        kubeconfig: "{{ kubeconfig }}"
      register: done

    - name: Show all that is known
      ansible.builtin.debug:
        msg: "{{ {'registered': done, 'all': vars} | to_json }}"
"""


def forms(secret):
    """What a key would be known by: base64 of it, and each line of the PEM text; line ends are written in many ways."""
    pem = base64.b64decode(secret["data"]["tls.key"]).decode()
    lines = [line for line in pem.splitlines() if "-----" not in line]
    assert len(lines) > 10
    return [secret["data"]["tls.key"], secret["data"]["tls.key"][400:460], *lines]


def leaks(found, text):
    """How many of the keys' forms a text holds."""
    return sum(form in text for form in found)


@pytest.fixture
def playbook(kubeconfig, tmp_path):
    """A function that runs the play at its most talkative, by ansible-playbook itself; returns its output and code."""
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "password").write_text("one\n")

    def run(callback, state, *words, file="keys.vault.yml", **more):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_STDOUT_CALLBACK": callback,
            "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
            **more,
        }
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "--diff", "-vvvv", "play.yml", *words]
        command += ["-e", json.dumps({"state": state, "file": file, "kubeconfig": kubeconfig})]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        log = tmp_path / "ansible.log"
        return done.returncode, done.stdout + done.stderr + (log.read_text() if log.exists() else "")

    run.folder = tmp_path
    return run


@pytest.mark.parametrize("callback", ["ansible.builtin.default", "ansible.posix.json"])
def test_nothing_leaks(playbook, cluster, hold, sealing_secrets, callback):
    """Neither what is shown, registered or logged, nor a file but the encrypted one holds a line of a key."""
    hold(1, 2)
    found = [form for secret in sealing_secrets[:2] for form in forms(secret)]
    given = ("--vault-password-file", "password")
    code, output = playbook(callback, "exported", *given)
    assert code == 0, output
    stored = cluster.objects.pop(f"{NAMESPACE}/secrets/key-1")
    code, restored = playbook(callback, "imported", *given)
    assert code == 0, restored
    assert "key-1" in restored
    assert "key-1" in secrets(cluster)
    # Failures show more than successes.
    other = deepcopy(sealing_secrets[2])
    other["metadata"]["name"] = "key-1"
    cluster.store(f"{NAMESPACE}/secrets/key-1", other)
    failed = [playbook(callback, state, *given) for state in ("exported", "imported")]
    assert [code for code, _unused in failed] == [2, 2]
    assert "holds another key of the name key-1" in failed[0][1]
    assert "holds something else than the backup does" in failed[1][1]
    cluster.answers[f"POST {NAMESPACE}/secrets"] = cluster.status(422, "Invalid", stored["data"]["tls.key"])
    del cluster.objects[f"{NAMESPACE}/secrets/key-1"]
    code, refused = playbook(callback, "imported", *given)
    assert code == 2
    assert "answered with 422" in refused

    texts = [output, restored, refused, *(text for _unused, text in failed)]
    texts += [each.read_text() for each in playbook.folder.rglob("*") if each.is_file()]
    assert [leaks(found, text) for text in texts] == [0] * len(texts)
    assert [each.name for each in playbook.folder.glob("*keys.vault*")] == ["keys.vault.yml"]


def test_a_planted_key_is_found(playbook, hold, sealing_secrets):
    """The search sees what is there: a made-up key, in one variable as it is and in another one in base64."""
    hold(1)
    lines = ["-----BEGIN RSA PRIVATE KEY-----", *(letter * 64 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")]
    pem = "\n".join([*lines, "-----END RSA PRIVATE KEY-----", ""])
    made_up = {"data": {"tls.key": base64.b64encode(pem.encode()).decode()}}
    planted = json.dumps({"planted": pem, "encoded": made_up["data"]["tls.key"]})
    code, output = playbook("ansible.posix.json", "exported", "--vault-password-file", "password", "-e", planted)
    assert code == 0, output
    assert leaks(forms(made_up), output) == len(forms(made_up))


def test_the_file_is_beside_the_caller_and_needs_a_password(playbook, hold, tmp_path):
    hold(1)
    code, output = playbook("ansible.builtin.default", "exported")
    assert code == 2
    assert "no vault password was given" in output
    assert not (tmp_path / "keys.vault.yml").exists()
    code, output = playbook("ansible.builtin.default", "exported", "--vault-id", "prod@password")
    assert code == 0, output
    assert (tmp_path / "keys.vault.yml").read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n")


def test_another_connection_is_refused(playbook):
    code, output = playbook("ansible.builtin.default", "exported", "-e", "ansible_connection=ssh")
    assert code == 2
    assert (
        "the file of the sealing keys is on the control node, but this host is reached by ssh: "
        "set ansible_connection to local"
    ) in output


def test_examples_of_the_reference_run(playbook, cluster, hold, kubeconfig, sealing_secrets):
    """As they stand in the module's reference."""
    hold(1, 2)
    cluster.namespace("kube-system")
    cluster.store("/api/v1/namespaces/kube-system/secrets/key-3", deepcopy(sealing_secrets[2]))
    play = {"hosts": "all", "gather_facts": False, "tasks": yaml.safe_load(reference.EXAMPLES)}
    (playbook.folder / "play.yml").write_text(yaml.safe_dump([play]))
    given = {"HOME": str(playbook.folder), "K8S_AUTH_KUBECONFIG": kubeconfig}
    code, output = playbook("ansible.builtin.default", "", "--vault-password-file", "password", **given)
    assert code == 0, output
    assert "msg: key-1, key-2" in output or '"msg": "key-1, key-2"' in output
    files = [playbook.folder / "sealing-keys.vault.yml", playbook.folder / "their-sealing-keys.vault.yml"]
    assert all(each.read_bytes().startswith(b"$ANSIBLE_VAULT;") for each in files)
