"""Bearer tokens are checked in a thread, and their groups too; test_oidc.py sends some to a running server."""

import asyncio
import threading

import pytest
from mlflow_oidc_auth.middleware import AuthMiddleware, auth_middleware

from mlops_mlflow_server import bearer


@pytest.fixture
def check(idp, user, restored, monkeypatch):
    """A function that checks a token with these claims; returns the outcome and the mark that `dispatch` reads."""
    restored(AuthMiddleware, "_authenticate_bearer_token", "_maybe_provision_bearer_user")
    threads = []
    validate = auth_middleware.validate_token

    def noted(token):
        threads.append(threading.current_thread())
        return validate(token)

    monkeypatch.setattr(auth_middleware, "validate_token", noted)
    assert bearer.install()
    middleware = AuthMiddleware(None)

    def check(name=None, **claims):
        idp.user = name or user()

        async def ask():
            outcome = await middleware._authenticate_bearer_token(f"Bearer {idp.token(**claims)}")
            return outcome, auth_middleware._BEARER_IDENTITY.get()

        return asyncio.run(ask())

    check.threads = threads
    return check


def test_token_is_checked_in_a_thread_with_its_context(check, idp):
    (holds, name, _unused), (provider, subject) = check()
    assert (holds, name, provider.id, subject) == (True, idp.user, "default", f"id-of-{idp.user}")
    assert check.threads
    assert threading.main_thread() not in check.threads


@pytest.mark.parametrize("groups", [None, [], ["others"]])
def test_user_without_admitted_group_is_refused(check, groups):
    assert check(groups=groups)[0][:2] == (False, None)


def test_service_account_needs_no_group(check, user):
    name = user(is_service_account=True, service_account_source="default")
    assert check(name, groups=None)[0][:2] == (True, name)


def test_refusal_does_not_affect_the_next_call(check):
    assert not check(groups=[])[0][0]
    assert check(groups=["mlflow-admins"])[0][0]


@pytest.mark.parametrize("name", bearer._MARKS)
def test_version_without_a_mark_is_detected(monkeypatch, name):
    monkeypatch.delattr(auth_middleware, name)
    assert not bearer.install()


@pytest.mark.parametrize("name", bearer._REPLACED)
def test_version_without_a_method_is_detected(monkeypatch, name):
    monkeypatch.delattr(AuthMiddleware, name)
    assert not bearer.install()
