"""The stack of the scenario `basic`, and accounts in it."""

import datetime
import secrets

import pytest

from tests.lib import callers
from tests.lib import stack as stacks
from tests.lib.fixtures import stack_of


@pytest.fixture(scope="session")
def stack(request):
    return stack_of(request.config, callers.BasicStack, "basic")


@pytest.fixture(scope="session")
def admin(stack):
    return stack.admin


@pytest.fixture(scope="session")
def accounts(stack, admin):
    """A function that creates an account with a name prefix; accounts are removed at the end."""
    made = []

    def make(name, exactly=False):
        stamp = datetime.datetime.now(datetime.UTC).strftime("%H%M%S%f")
        caller = callers.Caller(
            stack.mlflow_url, name if exactly else f"{name}-{stamp}", stacks.Hidden(secrets.token_urlsafe(18))
        )
        admin.well("POST", "2.0/mlflow/users/create", {"username": caller.name, "password": caller.password})
        made.append(caller.name)
        return caller

    yield make
    for name in made:
        admin("DELETE", "2.0/mlflow/users/delete", {"username": name})


@pytest.fixture(scope="session")
def name():
    """A name prefix of this run."""
    return datetime.datetime.now(datetime.UTC).strftime("basic-%Y%m%d-%H%M%S")
