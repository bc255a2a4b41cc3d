"""Groups by their paths, and addresses as names: claims of the collection's own Keycloak."""

import secrets

import pytest
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.middleware import auth_middleware
from mlflow_oidc_auth.routers import auth as router
from mlflow_oidc_auth.utils import oidc_field_extraction as extraction

from lib.provider import log_in
from mlops_mlflow_server import keycloak_claims
from mlops_mlflow_server.keycloak_claims import group_name

CURRENT = "/api/2.0/mlflow/users/current"
TOP_LEVEL = frozenset({"mlflow-admins", "team a"})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/mlflow-admins", "mlflow-admins"),
        ("/team a", "team a"),
        ("/others", "others"),
        ("/team/mlflow-admins", "/team/mlflow-admins"),
        ("/team/inner/team a", "/team/inner/team a"),
        ("/mlflow-admins/mlflow-admins", "/mlflow-admins/mlflow-admins"),
        # As before: names of groups that nobody declared.
        ("/team/analysts", "analysts"),
        # Of a token that was issued before groups were sent as paths.
        ("mlflow-admins", "mlflow-admins"),
        # A name that is empty is none, and admits nobody.
        ("/", ""),
        ("//mlflow-admins", "//mlflow-admins"),
    ],
)
def test_names_of_groups(path, name):
    assert group_name(path, TOP_LEVEL) == name


@pytest.mark.parametrize(
    ("groups", "is_admin"),
    [
        (["/mlflow"], False),
        (["/mlflow", "/mlflow-admins"], True),
        (["/mlflow", "/team/mlflow-admins"], False),
        (["mlflow", "mlflow-admins"], True),
    ],
)
def test_who_logs_in_as_an_administrator(oidc, idp, groups, is_admin):
    idp.user, idp.groups = f"user-{secrets.token_hex(4)}", groups
    with oidc.client() as client:
        assert log_in(client).status_code == 302
        assert client.get(CURRENT).json()["is_admin"] is is_admin
        # A renewal and a bearer token read the claim elsewhere.
        bearer = {"Authorization": f"Bearer {idp.token(sub=idp.user, preferred_username=idp.user, groups=groups)}"}
    with oidc.client(headers=bearer) as program:
        assert program.get(CURRENT).json()["is_admin"] is is_admin


def test_a_subgroup_with_the_name_of_a_group_that_may_log_in_does_not(oidc, idp):
    idp.user, idp.groups = f"user-{secrets.token_hex(4)}", ["/team/mlflow"]
    with oidc.client() as client:
        assert "error" in log_in(client).headers["location"]
        assert client.get(CURRENT).status_code == 401


@pytest.fixture
def installed(restored, monkeypatch):
    """A function that installs the part in this process, with these variables."""

    def installed(**variables):
        for reader in keycloak_claims._READERS:
            restored(reader, "normalize_group_values")
        restored(extraction, "extract_field_from_payload")
        for name in ("MLOPS_TOP_LEVEL_GROUPS", "MLOPS_VERIFIED_EMAIL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return keycloak_claims.install()

    return installed


@pytest.mark.parametrize(
    ("claims", "claim", "name"),
    [
        ({"email_verified": True}, "email", "kim@example.com"),
        ({"email_verified": False}, "email", None),
        ({"email_verified": "true"}, "email", None),
        ({}, "email", None),
        ({"email_verified": False}, "preferred_username", "kim"),
        ({"email_verified": False}, "email,preferred_username", "kim"),
    ],
)
def test_only_a_verified_address_is_a_name(installed, monkeypatch, claims, claim, name):
    assert installed(MLOPS_VERIFIED_EMAIL="true")
    monkeypatch.setattr(config, "OIDC_USERNAME_FIELD", claim.split(","))
    payload = {"email": "kim@example.com", "preferred_username": "kim", **claims}
    for read in (router.extract_username, auth_middleware.extract_username):
        found, error = read(payload)
        assert found == name
        assert (error is None) is (name is not None)


def test_claims_of_another_provider_are_left_alone(installed, monkeypatch):
    before = [reader.normalize_group_values for reader in keycloak_claims._READERS]
    assert installed()
    assert [reader.normalize_group_values for reader in keycloak_claims._READERS] == before
    monkeypatch.setattr(config, "OIDC_USERNAME_FIELD", ["email"])
    assert router.extract_username({"email": "kim@example.com", "email_verified": False})[0] == "kim@example.com"
