"""Who may issue access tokens; test_oidc.py issues some at a running server."""

import asyncio

import pytest
from fastapi import FastAPI, HTTPException, Request
from mlflow_oidc_auth import dependencies

from mlops_mlflow_server import issue

ADMIN = "mlflow-admin"


@pytest.fixture
def program(user):
    """The name of a service account."""
    return user(is_service_account=True)


@pytest.fixture
def may(monkeypatch):
    """A function that returns whether a token may be issued for an account."""
    monkeypatch.setenv("MLOPS_ADMIN_ACCOUNT", ADMIN)

    def may(whose, by=ADMIN, method="basic"):
        request = Request({"type": "http", "headers": [], "path_params": {"username": whose} if whose else {}})
        request.state.auth_method, request.state.username = method, by
        try:
            asyncio.run(issue.may_issue(request))
        except HTTPException as refusal:
            return refusal.status_code != 403
        return True

    return may


def test_playbooks_account_issues_tokens_for_service_accounts(may, program):
    assert may(program)
    assert may(program.upper())


@pytest.mark.parametrize("whose", ["unknown", "", ADMIN, ADMIN.upper()])
def test_not_for_other_accounts(may, user, whose):
    assert not may(whose)
    assert not may(user())


@pytest.mark.parametrize("by", ["ada", "", None])
def test_other_accounts_cannot_issue_with_a_token(may, program, by):
    assert not may(program, by=by)
    assert not may(program, by=program)


@pytest.mark.parametrize("method", ["workload", None])
def test_other_credentials_cannot_issue(may, program, method):
    assert not may(program, method=method)


@pytest.mark.parametrize("method", ["session", "bearer"])
def test_interactive_login_still_issues(may, user, method):
    assert may(user(), by="root", method=method)


def test_without_the_variable_nothing_changes(may, program, monkeypatch):
    monkeypatch.delenv("MLOPS_ADMIN_ACCOUNT")
    assert not may(program)
    assert not may(program, by="")


def test_version_without_the_guard_is_detected(monkeypatch):
    application = FastAPI()
    guard = dependencies.require_interactive_login
    assert issue.install(application)
    assert application.dependency_overrides == {guard: issue.may_issue}
    monkeypatch.delattr(dependencies, "require_interactive_login")
    assert not issue.install(application)
