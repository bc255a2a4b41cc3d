"""Groups in tokens, and what they change; test_oidc.py renews sessions of a running server."""

import pytest
import sqlalchemy
from mlflow_oidc_auth.config import config
from mlflow_oidc_auth.store import store

from mlops_mlflow_server import groups

PROVIDER = config.AUTH_PROVIDERS.by_id("default")


@pytest.fixture
def member(user):
    """A user in the groups `mlflow` and `team`."""
    name = user()
    groups.update(name, PROVIDER, ["mlflow", "team"])
    return name


@pytest.fixture
def written():
    """The statements that change the database."""
    seen = []

    def note(_connection, _cursor, statement, *_unused):
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            seen.append(statement)

    engine = store.engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sqlalchemy.event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("claims", "found"),
    [({"groups": ["a", "b"]}, ["a", "b"]), ({"groups": "a"}, ["a"]), ({}, []), ({"groups": None}, [])],
)
def test_groups_in_claims(claims, found):
    assert groups.groups_in_claims(claims) == found


@pytest.mark.parametrize("elsewhere", ["OIDC_GROUP_DETECTION_PLUGIN", "OIDC_USERINFO_GROUPS"])
def test_claims_are_ignored_if_groups_come_from_elsewhere(monkeypatch, elsewhere):
    assert hasattr(config, elsewhere)
    monkeypatch.setattr(config, elsewhere, "x")
    assert groups.groups_in_claims({"groups": ["mlflow"]}) is None


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ({"id_token": ["mlflow"]}, ["mlflow"]),
        ({"id_token": None, "access_token": ["mlflow"]}, []),
        ({"access_token": ["mlflow"]}, ["mlflow"]),
        ({"access_token": None}, None),
        ({}, None),
    ],
)
def test_groups_at_renewal(idp, tokens, found):
    answer = {name: idp.token(groups=named) for name, named in tokens.items()}
    assert groups.groups_at_renewal(answer) == found


@pytest.mark.parametrize("token", ["opaque", "a.W10.b", "", None])
def test_renewal_without_a_readable_token_names_no_groups(token):
    assert groups.groups_at_renewal({"access_token": token}) is None


@pytest.mark.parametrize(
    ("named", "may"), [(["mlflow"], True), (["mlflow-admins"], True), (["others"], False), ([], False)]
)
def test_who_may_log_in(named, may):
    assert groups.admitted(PROVIDER, named) is may


def test_groups_and_rights_are_updated(member, user):
    user(is_admin=True)  # mlflow-oidc-auth keeps the last administrator
    assert sorted(store.get_groups_for_user(member)) == ["mlflow", "team"]
    groups.update(member, PROVIDER, ["mlflow-admins"])
    assert store.get_groups_for_user(member) == ["mlflow-admins"]
    assert store.get_user_profile(member).is_admin
    groups.update(member, PROVIDER, ["mlflow"])
    assert not store.get_user_profile(member).is_admin


def test_unchanged_groups_are_not_written(member, written):
    groups.update(member, PROVIDER, ["team", "mlflow"])
    assert written == []


def test_version_without_the_names_is_detected(monkeypatch):
    monkeypatch.delattr(groups.router, "_session_tokens_from_response")
    assert not groups.install()
