"""The module with Vault, in each possible state."""

import base64
import threading
import time

from tests.lib import servers
from tests.lib.vaulted import ONE, TWO

GENERATED = 32


def test_a_generated_value_is_in_vault_and_in_every_namespace(login):
    values, version = login.kept()
    assert version == 1
    assert values["username"] == "mlflow"
    assert len(values["password"]) == GENERATED
    assert login.values(ONE) == login.values(TWO) == values
    metadata = login.stack.core.read_namespaced_secret("login", ONE).metadata
    assert metadata.labels["team"] == "ml"
    assert not metadata.owner_references


def test_a_second_run_changes_nothing(login):
    before = login.everything()
    changed, output = login.changed()
    assert not changed, output
    changed, output = login.changed("--check")
    assert not changed, output
    assert login.everything() == before


def test_value_changed_in_vault_reaches_the_cluster(login):
    login.vault.put("login", {"username": "mlflow", "password": "changed in Vault", "theirs": "kept"})
    changed, output = login.changed("--check")
    assert changed, output
    assert login.values(ONE)["password"] != "changed in Vault"
    changed, output = login.changed()
    assert changed, output
    assert login.values(ONE)["password"] == login.values(TWO)["password"] == "changed in Vault"
    assert login.kept() == ({"username": "mlflow", "password": "changed in Vault", "theirs": "kept"}, 2)
    assert not login.changed()[0]


def test_value_changed_in_the_cluster_is_reverted(login):
    there = login.values(ONE)
    encoded = base64.b64encode(b"by hand").decode()
    login.stack.core.patch_namespaced_secret("login", TWO, {"data": {"password": encoded}})
    assert login.changed()[0]
    assert login.values(TWO) == there == login.kept()[0]


def test_a_supplied_value_replaces_both(login):
    assert login.changed(supplied="from a user")[0]
    assert login.kept() == ({"username": "mlflow", "password": "from a user"}, 2)
    assert login.values(ONE) == login.values(TWO) == login.kept()[0]
    assert not login.changed(supplied="from a user")[0]
    assert not login.changed()[0]


def test_backend_switch_keeps_every_value(login):
    there, versions = login.values(ONE), login.everything()[0]
    assert not login.changed(backend="kubernetes")[0]
    assert login.everything()[0] == versions
    login.vault.client().secrets.kv.v2.delete_metadata_and_all_versions("mlflow/login", mount_point=servers.MOUNT)
    changed, output = login.changed("--check")
    assert changed, output
    assert login.versions().get("login") is None
    changed, output = login.changed()
    assert changed, output
    assert login.kept() == (there, 1)
    assert login.everything()[0] == versions, "no Secret is written"


def test_a_deleted_version_is_filled_from_the_cluster(login):
    there = login.values(ONE)
    login.vault.client().secrets.kv.v2.delete_latest_version_of_secret("mlflow/login", mount_point=servers.MOUNT)
    assert login.changed()[0]
    assert login.kept() == (there, 2)


def test_a_new_cluster_gets_what_vault_has(login):
    there = login.kept()
    for namespace in (ONE, TWO):
        login.stack.kubectl("-n", namespace, "delete", "secret", "login")
    assert login.changed()[0]
    assert login.values(ONE) == login.values(TWO) == there[0]
    assert login.kept() == there


def test_concurrent_runs_agree_on_one_value(login):
    login.clear()
    done = []
    threads = [threading.Thread(target=lambda: done.append(login.ensure())) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.code for each in done] == [0, 0, 0], "\n".join(each.output for each in done)
    values, version = login.kept()
    assert version == 1
    assert login.values(ONE) == login.values(TWO) == values


def test_token_and_kubernetes_auth_methods(login):
    token = login.options(
        auth_method="token", role_id=None, secret_id=None, token={"file": login.file(login.vault.token())}
    )
    assert not login.changed(vault=token)[0]
    jwt = login.file(login.stack.token_of("deployer"))
    account = login.options(auth_method="kubernetes", role="mlflow", role_id=None, secret_id=None, jwt={"file": jwt})
    login.vault.put("login", {"username": "mlflow", "password": "by a service account"})
    assert login.changed(vault=account)[0]
    assert login.values(TWO)["password"] == "by a service account"


def test_service_account_not_bound_to_the_role(login):
    jwt = login.file(login.stack.token_of("vault"))
    account = login.options(auth_method="kubernetes", role="mlflow", role_id=None, secret_id=None, jwt={"file": jwt})
    message = login.fails(vault=account)
    assert "refuses the Kubernetes login by auth/kubernetes with the role 'mlflow'" in message


def test_output_contains_no_secrets(login):
    token = login.vault.token()
    given = {"auth_method": "token", "role_id": None, "secret_id": None, "token": {"value": token}}
    outputs = [
        login.changed("-vvv", supplied="a user's own secret")[1],
        login.changed("-vvv", vault=login.options(**given))[1],
    ]
    # Ansible prints the lines around a failed task, so only successful runs are checked.
    for secret in (*login.values().values(), login.secret_id, token):
        if secret != "mlflow":
            for output in outputs:
                assert secret not in output
                assert base64.b64encode(secret.encode()).decode() not in output
    assert "hvs." not in "".join(outputs)


# --- failures: one sentence, and nothing changed ----------------------------------------------------------------------


def test_a_sealed_vault(login, unsealed):
    unsealed.seal()
    message = login.fails()
    assert f"Vault at {unsealed.url} is sealed: unseal it with 'vault operator unseal', then run again" in message


def test_a_vault_that_is_down(login, unsealed):
    login.stack.kubectl("-n", "vault", "scale", "statefulset/vault", "--replicas=0")
    login.stack.kubectl("-n", "vault", "wait", "--for=delete", "pod/vault-0", "--timeout=60s")
    try:
        before = [
            login.stack.core.read_namespaced_secret("login", each).metadata.resource_version for each in (ONE, TWO)
        ]
        done = login.ensure()
        assert done.code != 0
        assert f"Vault at {unsealed.url} " in done.output
        assert "Traceback" not in done.output
        after = [
            login.stack.core.read_namespaced_secret("login", each).metadata.resource_version for each in (ONE, TWO)
        ]
        assert before == after
    finally:
        login.stack.kubectl("-n", "vault", "scale", "statefulset/vault", "--replicas=1")
        login.stack.kubectl("-n", "vault", "wait", "--for=create", "pod/vault-0", "--timeout=60s")
        unsealed.wait(120)
        unsealed.unseal()
    # The data is on the volume.
    assert not login.changed()[0]


def test_a_token_that_has_expired(login):
    token = login.vault.token(ttl="1s")
    time.sleep(2)
    given = {"auth_method": "token", "role_id": None, "secret_id": None, "token": {"file": login.file(token)}}
    message = login.fails(vault=login.options(**given))
    assert "is not valid at Vault" in message
    assert "vault_token (file " in message
    assert "make a new one with 'vault token create'" in message


def test_a_secret_id_that_was_destroyed(login):
    login.vault.client().auth.approle.destroy_secret_id("mlflow", login.secret_id)
    message = login.fails()
    assert "refuses the AppRole login by auth/approle" in message
    assert "check vault_role_id, and that the secret ID of vault_secret_id (file " in message
    assert login.secret_id not in message


def test_a_path_that_is_denied(login):
    message = login.fails(vault=login.options(path="another"))
    assert "needs a policy with the capability 'read' on the path secret/data/another/login" in message


def test_a_path_that_may_only_be_read(login):
    rules = 'path "secret/data/mlflow/*" { capabilities = ["read"] }'
    login.vault.client().sys.create_or_update_policy("reads", rules)
    token = login.file(login.vault.token("reads"))
    given = {"auth_method": "token", "role_id": None, "secret_id": None, "token": {"file": token}}
    assert not login.changed(vault=login.options(**given))[0], "reading is enough where nothing is to be written"
    message = login.fails(vault=login.options(**given), supplied="another password")
    assert "needs a policy with the capability 'update' on the path secret/data/mlflow/login" in message


def test_a_store_of_version_1(login):
    token = {"auth_method": "token", "role_id": None, "secret_id": None}
    token["token"] = {"file": login.file(login.vault.keys["root_token"])}
    message = login.fails(vault=login.options(mount=servers.OLD_MOUNT, **token))
    assert "vault_mount is 'old', a key-value store of version 1, and must be of version 2" in message


def test_wrong_ca(login, tmp_path):
    (tmp_path / "other.pem").write_text(servers.CA("another").pem)
    message = login.fails(vault=login.options(ca_path=str(tmp_path / "other.pem")))
    assert "shows a certificate that is not trusted by vault_ca_path" in message


def test_concurrent_writer_makes_the_module_give_up(login):
    """Check-and-set always fails: the module gives up with one sentence, and the other writer's value stays."""
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            login.vault.put("login", {"username": f"another-writer-{number}", "password": "theirs"})

    before = [login.stack.core.read_namespaced_secret("login", each).metadata.resource_version for each in (ONE, TWO)]
    threads = [threading.Thread(target=write) for _number in range(4)]
    for thread in threads:
        thread.start()
    try:
        done = login.ensure()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert "Traceback" not in done.output
    if done.code != 0:  # depends on timing
        assert "is changed by another writer all the time" in done.output
        after = [
            login.stack.core.read_namespaced_secret("login", each).metadata.resource_version for each in (ONE, TWO)
        ]
        assert after == before
    assert login.changed()[0] or login.kept()[0]["username"] == "mlflow"
