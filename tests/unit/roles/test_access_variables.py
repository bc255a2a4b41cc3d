"""What the roles make of the variables that say who may do what."""

import pytest
from ansible_collections.mlops.mlflow.plugins.modules import mlflow_access

from tests.lib import checks, rendering


@pytest.fixture(scope="module")
def mlflow():
    return rendering.Role("mlflow")


@pytest.fixture(scope="module")
def keycloak():
    return rendering.Role("keycloak")


@pytest.mark.parametrize(
    ("name", "fits"), [("mlflow-admin", True), ("Admin", False), ("admin.Two", False), ("1st", False)]
)
def test_account_of_playbooks_is_in_lower_case(name, fits):
    assert checks.constraints("platform")["mlflow_admin_user"].allows(name) is fits


ADA = {"name": "ada", "email": "Ada@example.org"}


@pytest.mark.parametrize(("claim", "member"), [("preferred_username", "ada"), ("email", "ada@example.org")])
def test_members_are_called_as_mlflow_knows_them(keycloak, claim, member):
    options = {
        "mlflow_oidc_username_claim": claim,
        "keycloak_users": [{**ADA, "groups": ["mlflow-users"]}, {"name": "bob"}],
        "mlflow_access": {"groups": {"mlflow-admins": {"members": [member]}}},
        "platform_components": ["keycloak", "mlflow"],
    }

    ada, bob = keycloak.value("__keycloak_all_users", options)

    assert (ada["groups"], "groups" in bob) == (["mlflow-users", "mlflow-admins"], False)


@pytest.mark.parametrize("auth", ["basic", "oauth2_proxy"])
def test_members_of_mlflows_own_groups_are_none_of_keycloaks(keycloak, auth):
    access = {"groups": {"science": {"members": ["ada"]}}}

    (ada,) = keycloak.value(
        "__keycloak_all_users", {"mlflow_auth": auth, "keycloak_users": [ADA], "mlflow_access": access}
    )

    assert "groups" not in ada


def test_no_user_of_the_proxy_is_taken_for_a_program(mlflow):
    options = {
        "mlflow_auth": "oauth2_proxy",
        "mlflow_oauth2_proxy_reserved_users": ["ops", "nightly"],
        "mlflow_access": {"service_accounts": {"nightly": {}}},
        "mlflow_clients": [{"name": "ci", "user": "robot", "namespaces": ["ci"]}],
    }

    reserved = next(
        each["value"]
        for each in mlflow.value("__mlflow_server_env", options)
        if each["name"] == "MLOPS_BRIDGE_RESERVED"
    )

    assert sorted(reserved.split(",")) == ["ci", "nightly", "ops", "robot"]


@pytest.mark.parametrize(
    ("auth", "parts", "known"), [("oidc", True, True), ("oidc", False, False), ("basic", True, False)]
)
def test_users_are_those_of_our_keycloak_where_it_logs_them_in(mlflow, auth, parts, known):
    options = {
        "mlflow_auth": auth,
        "keycloak_users": [{"name": "ada", "enabled": False}],
        "keycloak_groups": ["science"],
        "platform_components": ["keycloak", "mlflow"] if parts else ["mlflow"],
    }

    found = mlflow.value("__mlflow_access_options", options)

    users, groups = options["keycloak_users"], ["mlflow-admins", "mlflow-users", "science"]
    if known:
        assert (found["people"], found["groups"]) == (users, groups)
    else:
        assert not {"people", "groups"} & set(found)


def test_options_are_the_modules(mlflow):
    assert set(mlflow.value("__mlflow_access_options")) <= set(mlflow_access.ARGUMENT_SPEC)


@pytest.mark.parametrize("auth", ["basic", "oidc"])
def test_first_passwords_are_those_of_mlflows_own_users(mlflow, auth):
    found = mlflow.value("__mlflow_access_secrets", {"mlflow_auth": auth, "mlflow_access": {"users": {"ada": None}}})

    password = {"generate": "password", "length": 24}
    secret = {"name": "mlflow-users", "namespaces": ["mlflow"], "keys": {"ada": password}}
    assert found == ([secret] if auth == "basic" else [])
