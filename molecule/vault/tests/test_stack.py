"""The whole stack with the backend vault: Vault equals the cluster, and a change in Vault reaches the pods."""

import secrets as randomness

import pytest

from tests.lib import stack as stacks
from tests.lib.vaulted import credentials, pods, sentence, words


@pytest.fixture
def refused(stack, unsealed):
    """A function that runs site.yml, which must fail with one sentence and change nothing; it returns the sentence."""

    def run(*more):
        before = stack.versions()
        done = stack.playbook(*more)
        assert done.code != 0
        assert "Traceback" not in done.output
        assert stack.versions() == before
        return sentence(done)

    return run


def test_every_credential_is_in_vault(stack, vault):
    found = credentials(stack)
    assert {"mlflow-db-credentials", "mlflow-s3-secret", "keycloak-users"} <= {name for _namespace, name in found}
    for (namespace, name), values in found.items():
        kept, _version = vault.entry(name)
        assert set(kept) == set(values), f"{namespace}/{name}"
        assert [key for key in values if kept[key] != values[key]] == [], f"{namespace}/{name}"


def test_secrets_have_no_owner(stack):
    for namespace in stacks.NAMESPACES.values():
        for secret in stack.core.list_namespaced_secret(namespace).items:
            assert not secret.metadata.owner_references, secret.metadata.name


@pytest.mark.parametrize("method", ["approle", "token", "kubernetes"])
def test_second_run_changes_nothing(stack, vault, tmp_path, method):
    before, entries = stack.versions(), {name: vault.entry(name)[1] for _namespace, name in credentials(stack)}
    (tmp_path / "secret").write_text(vault.token() if method == "token" else stack.token_of("deployer"))
    more = {
        "approle": {},
        "token": {"vault_token": {"file": str(tmp_path / "secret")}},
        "kubernetes": {"vault_role": "mlflow", "vault_jwt": {"file": str(tmp_path / "secret")}},
    }[method]
    done = stack.playbook("--diff", *words(vault_auth_method=method, **more))
    assert done.code == 0, done.output
    assert done.count("changed") == 0, done.output
    assert stack.versions() == before
    assert {name: vault.entry(name)[1] for _namespace, name in credentials(stack)} == entries


def test_value_changed_in_vault_reaches_the_pods(stack, vault):
    before = pods(stack)
    changed = stacks.Hidden(randomness.token_hex(20))
    kept, _version = vault.entry("mlflow-s3-secret")
    vault.put("mlflow-s3-secret", {**kept, "AWS_SECRET_ACCESS_KEY": str(changed)})
    done = stack.playbook("--diff")
    assert done.code == 0, done.output
    assert changed not in done.output
    assert credentials(stack)["mlflow", "mlflow-s3-secret"]["AWS_SECRET_ACCESS_KEY"] == changed
    assert stack.s3_key()[1] == changed
    assert isinstance(stack.objects(), list), "MinIO takes the new key"
    after = pods(stack)
    assert after["mlflow"].isdisjoint(before["mlflow"]), "each pod was replaced"
    for component in ("postgres", "keycloak", "sealed_secrets"):
        assert after[component] == before[component]
    second = stack.playbook()
    assert second.count("changed") == 0, second.output


def test_a_sealed_vault(vault, refused):
    vault.seal()
    assert f"Vault at {vault.url} is sealed" in refused()


def test_a_token_that_is_not_valid(refused, tmp_path):
    (tmp_path / "token").write_text("hvs.expired-long-ago")
    message = refused(*words(vault_auth_method="token", vault_token={"file": str(tmp_path / "token")}))
    assert "the token of vault_token" in message
    assert "hvs." not in message


def test_a_path_that_is_denied(refused):
    assert "policy with the capability 'read' on the path secret/data/another/" in refused(*words(vault_path="another"))


def test_a_store_of_version_1(vault, refused, tmp_path):
    (tmp_path / "token").write_text(vault.keys["root_token"])
    given = {"vault_auth_method": "token", "vault_token": {"file": str(tmp_path / "token")}}
    assert "vault_mount is 'old', a key-value store of version 1" in refused(*words(vault_mount="old", **given))
