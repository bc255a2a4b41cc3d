# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the backup of sealing keys: what is read, what the file holds, and what is never overwritten."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.controller import BACKED_UP, KEY_LABEL
from ansible_collections.mlops.mlflow.plugins.plugin_utils import sealing_keys
from ansible_collections.mlops.mlflow.plugins.plugin_utils.sealing_keys import Backup, SealingKey, SealingKeysError

ONE = [("default", VaultSecret(b"one"))]
OTHER = [("default", VaultSecret(b"another"))]
WHEN = "2026-05-04T03:02:01Z"


@pytest.fixture
def keys(sealing_secrets):
    """Three keys, the oldest first."""
    return [SealingKey.from_secret(each, "it") for each in sealing_secrets]


@pytest.fixture
def path(tmp_path):
    """Where a backup may be."""
    return tmp_path / "keys.vault.yml"


def test_a_key_is_read(sealing_secrets):
    key = SealingKey.from_secret(sealing_secrets[0], "it")
    assert (key.name, key.namespace, key.type, key.state) == ("key-1", "sealed-secrets", "kubernetes.io/tls", "active")
    assert key.certificate.not_before.year == 2021
    assert len({SealingKey.from_secret(each, "it").content for each in sealing_secrets}) == 3
    assert "BEGIN" not in repr(key)
    assert sealing_secrets[0]["data"]["tls.key"] not in repr(key)


def test_what_a_cluster_adds_is_left_out(sealing_secrets):
    secret = sealing_secrets[0]
    secret["metadata"] |= {
        "uid": "u",
        "resourceVersion": "7",
        "managedFields": [{}],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": secret["data"]["tls.key"],
            sealing_keys.RESTORED: WHEN,
            "owner": "platform",
        },
    }
    key = SealingKey.from_secret(secret, "it")
    assert key.manifest()["metadata"] == {
        "name": "key-1",
        "namespace": "sealed-secrets",
        "labels": {KEY_LABEL: "active"},
        "annotations": {"owner": "platform"},
    }


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"tls.crt": "eA=="}, "Secret a/b is no sealing key: it lacks tls.key"),
        ({"tls.crt": "*", "tls.key": "x"}, "Secret a/b is no sealing key: its data are not base64"),
        ({"tls.key": b"no key"}, "Secret a/b is no sealing key: its tls.key is no RSA key in PEM"),
        ({"tls.crt": b"no certificate"}, "tls.crt of Secret a/b is no certificate: "),
    ],
)
def test_what_is_no_key_is_reported(sealing_secrets, data, sentence):
    made = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in data.items()
    }
    whole = made if any(isinstance(value, str) for value in data.values()) else {**sealing_secrets[0]["data"], **made}
    with pytest.raises(SealingKeysError) as failure:
        SealingKey.from_secret({"metadata": {"name": "b"}, "data": whole}, "Secret a/b")
    assert str(failure.value).startswith(sentence)


def test_round_trip(keys, path):
    backup = Backup(path, ONE)
    assert backup.read() is None
    backup.write(keys)
    assert backup.read() == keys
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    text = path.read_text()
    assert text.startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    assert "tls" not in text


def test_ansible_vault_opens_it_and_kubectl_could_take_it(keys, path, tmp_path):
    Backup(path, [("prod", VaultSecret(b"one"))]).write(keys)
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n")
    (tmp_path / "password").write_text("one\n")
    command = ["ansible-vault", "view", "--vault-password-file", tmp_path / "password", path]
    listed = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert [each["metadata"]["name"] for each in listed["items"]] == ["key-1", "key-2", "key-3"]
    assert listed["items"][2] == keys[2].manifest()


def test_what_ansible_vault_closed_is_opened(sealing_secrets, path, tmp_path):
    """A backup that was made with kubectl and ansible-vault."""
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": sealing_secrets}))
    (tmp_path / "password").write_text("one\n")
    command = ["ansible-vault", "encrypt", "--vault-password-file", tmp_path / "password", path]
    subprocess.run(command, check=True, capture_output=True)
    assert [each.name for each in Backup(path, ONE).read()] == ["key-1", "key-2", "key-3"]


def test_equal_keys_give_equal_texts(keys):
    assert sealing_keys.dump(keys) == sealing_keys.dump(list(reversed(keys)))
    assert sealing_keys.load(sealing_keys.dump(keys).encode(), "it") == keys


def _close(path: Path, text: str) -> None:
    path.write_bytes(VaultLib(ONE).encrypt(text, ONE[0][1]))


def test_another_password(keys, path):
    Backup(path, ONE).write(keys)
    with pytest.raises(SealingKeysError) as failure:
        Backup(path, OTHER).read()
    assert str(failure.value) == (
        f"sealed_secrets_keys_file is '{path}': this file cannot be opened by the vault passwords that were given "
        "(default): another password closed it, or it is damaged"
    )


@pytest.mark.parametrize("left", [0.99, 0.5, 0.01])
def test_a_file_that_was_cut_off(keys, path, left):
    Backup(path, ONE).write(keys)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * left)])
    with pytest.raises(SealingKeysError, match=r"cannot be opened .* or it is damaged$"):
        Backup(path, ONE).read()


@pytest.mark.parametrize("at", range(100, 1500, 200))
def test_a_file_with_a_wrong_digit(keys, path, at):
    Backup(path, ONE).write(keys)
    whole = bytearray(path.read_bytes())
    whole[at] = ord("z")
    path.write_bytes(bytes(whole))
    with pytest.raises(SealingKeysError, match=r"cannot be opened .* or it is damaged$"):
        Backup(path, ONE).read()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("a: [", "is opened, but holds no YAML"),
        ("just words", "is opened, but holds something else than Secrets"),
        ("kind: ConfigMap", "is opened, but holds something else than Secrets"),
        ("kind: Secret", "Secret number 1 in it is no Secret with a name and data"),
        ("{kind: List, items: []}", "holds no sealing keys"),
        ("# nothing", "holds no sealing keys"),
        ("when: 2026-99-99", "Secret number 1 in it is no Secret with a name and data"),
    ],
)
def test_a_file_with_something_else_in_it(path, text, end):
    _close(path, text)
    with pytest.raises(SealingKeysError) as failure:
        Backup(path, ONE).read()
    assert str(failure.value).endswith(end)
    assert text not in str(failure.value)


def test_a_duplicate_key(keys):
    text = "---\n".join(yaml.safe_dump(keys[0].manifest()) for _unused in range(2)).encode()
    with pytest.raises(SealingKeysError, match="holds the Secret key-1 more than once"):
        sealing_keys.load(text, "it")


def test_a_file_that_is_not_encrypted_is_left_alone(path):
    path.write_text("kind: List\n")
    with pytest.raises(SealingKeysError, match="is not encrypted by ansible-vault, so it is left alone"):
        Backup(path, ONE).read()


def test_no_password(keys, path):
    with pytest.raises(SealingKeysError, match=r"^no vault password was given"):
        Backup(path, []).write(keys)
    assert not path.exists()
    Backup(path, ONE).write(keys)
    with pytest.raises(SealingKeysError, match="is encrypted, and no vault password was given"):
        Backup(path, []).read()


def test_several_passwords(keys, path):
    both = [("dev", VaultSecret(b"one")), ("prod", VaultSecret(b"another"))]
    with pytest.raises(SealingKeysError) as failure:
        Backup(path, both).write(keys)
    assert str(failure.value) == (
        "several vault identities were given (dev, prod): name the one to encrypt with in sealed_secrets_keys_vault_id"
    )
    with pytest.raises(SealingKeysError) as failure:
        Backup(path, both, "test").write(keys)
    assert str(failure.value) == (
        "sealed_secrets_keys_vault_id is 'test': the vault identities that were given are dev, prod"
    )
    Backup(path, both, "prod").write(keys)
    assert Backup(path, OTHER).read() == keys
    assert Backup(path, both).read() == keys


def test_keys_are_only_added(keys):
    first, second, third = keys
    kept = sealing_keys.merged([], [first, third], "it", WHEN)
    assert [key.name for key in kept] == ["key-1", "key-3"]
    assert {key.annotations[BACKED_UP] for key in kept} == {WHEN}
    more = sealing_keys.merged(kept, [second], "it", "2027-01-01T00:00:00Z")
    assert [key.name for key in more] == ["key-1", "key-2", "key-3"]
    assert [key.annotations[BACKED_UP][:4] for key in more] == ["2026", "2027", "2026"]
    assert sealing_keys.merged(more, keys, "it", "2028-01-01T00:00:00Z") == more


def test_a_key_that_was_retired_is_retired_in_the_file(keys):
    kept = sealing_keys.merged([], keys, "it", WHEN)
    retired = replace(keys[0], labels={KEY_LABEL: "compromised"})
    after = sealing_keys.merged(kept, [retired, *keys[1:]], "it", WHEN)
    assert [key.state for key in after] == ["compromised", "active", "active"]
    assert [key.content for key in after] == [key.content for key in kept]


def test_another_key_of_the_same_name(keys):
    with pytest.raises(SealingKeysError) as failure:
        sealing_keys.merged([keys[0]], [replace(keys[1], name="key-1")], "this file", WHEN)
    assert str(failure.value) == (
        "this file holds another key of the name key-1, of another cluster: it is left alone, choose another file"
    )


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(SealingKeysError, match="this is a folder, and must be a file"):
        Backup(tmp_path, ONE).check_writable()
    (tmp_path / "file").touch()
    with pytest.raises(SealingKeysError, match="you may not write in"):
        Backup(tmp_path / "file" / "keys", ONE).check_writable()
    Backup(tmp_path / "new" / "folder" / "keys", ONE).check_writable()
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_the_file(keys, path, monkeypatch):
    Backup(path, ONE).write(keys[:1])
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealing_keys.os, "fsync", full)
    with pytest.raises(SealingKeysError, match=r"cannot be written \(No space left on device\)"):
        Backup(path, ONE).write(keys)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_two_backups_at_once_wait_for_each_other(path):
    order = []

    def second():
        with Backup(path, ONE).locked():
            order.append("second")

    with Backup(path, ONE).locked():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
