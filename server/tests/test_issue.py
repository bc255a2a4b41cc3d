"""Who may issue access tokens."""

import asyncio
import sys
import types

import pytest

ADMIN = "mlflow-admin"


class Refused(Exception):
    pass


@pytest.fixture
def issue(load, monkeypatch):
    async def require_interactive_login(request):
        if request.state.auth_method not in ("session", "bearer"):
            raise Refused

    known = {"training": True, "ada": False, ADMIN: True}
    store = types.SimpleNamespace(
        get_user_detail=lambda name: {"is_service_account": known[name.lower()]} if name.lower() in known else None
    )
    for name, attributes in {
        "fastapi": {"Request": object},
        "mlflow_oidc_auth.dependencies": {"require_interactive_login": require_interactive_login},
        "mlflow_oidc_auth.store": {"store": store},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(
        sys.modules["mlflow_oidc_auth"], "dependencies", sys.modules["mlflow_oidc_auth.dependencies"], raising=False
    )
    monkeypatch.setenv("MLOPS_ADMIN_ACCOUNT", ADMIN)
    return load("issue")


def may(issue, whose, by=ADMIN, method="basic"):
    request = types.SimpleNamespace(
        path_params={"username": whose} if whose else {},
        state=types.SimpleNamespace(auth_method=method, username=by),
    )
    try:
        asyncio.run(issue.may_issue(request))
    except Refused:
        return False
    return True


def test_playbooks_account_issues_tokens_for_service_accounts(issue):
    assert may(issue, "training")
    assert may(issue, "Training")


@pytest.mark.parametrize("whose", ["ada", "nobody", "", ADMIN, ADMIN.upper()])
def test_not_for_other_accounts(issue, whose):
    assert not may(issue, whose)


@pytest.mark.parametrize("by", ["training", "ada", "", None])
def test_other_accounts_cannot_issue_with_a_token(issue, by):
    assert not may(issue, "training", by=by)


@pytest.mark.parametrize("method", ["workload", None])
def test_other_credentials_cannot_issue(issue, method):
    assert not may(issue, "training", method=method)


@pytest.mark.parametrize("method", ["session", "bearer"])
def test_interactive_login_still_issues(issue, method):
    assert may(issue, "ada", by="root", method=method)


def test_without_the_variable_nothing_changes(issue, monkeypatch):
    monkeypatch.delenv("MLOPS_ADMIN_ACCOUNT")
    assert not may(issue, "training")
    assert not may(issue, "training", by="")


def test_version_without_the_guard_is_detected(issue, monkeypatch):
    application = types.SimpleNamespace(dependency_overrides={})
    guard = issue.dependencies.require_interactive_login
    assert issue.install(application)
    assert application.dependency_overrides == {guard: issue.may_issue}
    monkeypatch.delattr(issue.dependencies, "require_interactive_login")
    assert not issue.install(application)
