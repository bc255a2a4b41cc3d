"""What the roles make of the variables that say who may do what."""

import pytest

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
def test_members_are_called_as_mlflow_knows_them(keycloak, mlflow, claim, member):
    options = {
        "mlflow_oidc_username_claim": claim,
        "keycloak_users": [{**ADA, "groups": ["mlflow-users"]}, {"name": "bob"}],
        "mlflow_access": {"groups": {"mlflow-admins": {"members": [member]}}},
        "platform_components": ["keycloak", "mlflow"],
    }

    ada, bob = keycloak.value("__keycloak_all_users", options)

    assert (ada["groups"], "groups" in bob) == (["mlflow-users", "mlflow-admins"], False)
    assert mlflow.value("__mlflow_access_admins", options) == ["ada"]
    assert member in mlflow.value("__mlflow_access_people", options)


@pytest.mark.parametrize("auth", ["basic", "oauth2_proxy"])
def test_members_of_mlflows_own_groups_are_none_of_keycloaks(keycloak, auth):
    access = {"groups": {"science": {"members": ["ada"]}}}

    (ada,) = keycloak.value(
        "__keycloak_all_users", {"mlflow_auth": auth, "keycloak_users": [ADA], "mlflow_access": access}
    )

    assert "groups" not in ada


def test_nobody_who_logs_in_by_the_proxy_is_taken_for_a_program(mlflow):
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


FOUND = {
    "groups": {"changes": []},
    "users": {"skipped": True},
    "clients": {"changes": ["x"]},
    "tokens": {"msg": "no MLflow"},
}


def test_a_module_is_called_again_only_where_its_check_found_something(mlflow):
    found = {f"__mlflow_access_{name}_found": {"changed": False, **its} for name, its in FOUND.items()}

    differ = {name: mlflow.value(f"__mlflow_access_{name}_differ | bool", found) for name in FOUND}

    assert differ == {"groups": False, "users": False, "clients": True, "tokens": True}


@pytest.mark.parametrize("which", ["users", "clients", "accounts", "experiments", "models", ""])
def test_what_was_made_may_have_permissions_to_follow(mlflow, which):
    parts = ("users", "clients", "accounts", "experiments", "models")
    made = {f"__mlflow_access_made_{part}": {"changed": part == which, "skipped": True} for part in parts}

    assert mlflow.value("__mlflow_access_made | bool", made) is bool(which)


@pytest.mark.parametrize(("auth", "parts", "told"), [("oidc", True, 1), ("oidc", False, 0), ("basic", True, 0)])
def test_who_may_log_in_is_keycloaks_to_say_where_it_is_asked(mlflow, auth, parts, told):
    options = {
        "mlflow_auth": auth,
        "keycloak_users": [{"name": "ada", "enabled": False}],
        "platform_components": ["keycloak", "mlflow"] if parts else ["mlflow"],
    }

    assert len(mlflow.value("__mlflow_access_plan", options)["users"]) == told
