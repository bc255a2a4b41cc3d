"""Keys before and after the current one: servers of before and after a rotation work side by side."""

import dataclasses
import time
from collections.abc import Mapping

import pytest
from cryptography.fernet import Fernet

from conftest import oidc_variables
from lib import process, provider
from mlops_mlflow_server import ring

FERNETS = [Fernet.generate_key().decode() for _unused in range(3)]


def keys(*, rotated: bool) -> dict[str, str]:
    """Return the variables with keys of a server that was started before the rotation, or after it."""
    now, other, prefix = (1, 0, ring.PREVIOUS) if rotated else (0, 1, ring.NEXT)
    texts = {"SECRET_KEY": ["signs", "will sign"], "OIDC_CLIENT_SECRET": [provider.SECRET, "another secret"]}
    return {name: values[now] for name, values in texts.items()} | {
        **{prefix + name: values[other] for name, values in texts.items()},
        "SESSION_TOKEN_ENCRYPTION_KEY": f"{FERNETS[now]},{FERNETS[other]}",
    }


@dataclasses.dataclass
class Sides:
    """A server of before the rotation and one of after it, on the same databases."""

    before: process.Server
    after: process.Server


@pytest.fixture(scope="module")
def sides(migrated, tmp_path_factory):
    databases = migrated("oidc").copy()
    from conftest import _provider  # noqa: PLC0415  (of this run)

    servers = [
        process.Server(
            tmp_path_factory.mktemp("side"),
            {**databases.variables, "MLOPS_AUTH": "oidc", **oidc_variables(_provider.issuer), **keys(rotated=rotated)},
        )
        for rotated in (False, True)
    ]
    try:
        yield Sides(*(server.wait() for server in servers))
    finally:
        for server in servers:
            server.stop()


def is_logged_in(server: process.Server, cookies: Mapping[str, str]) -> bool:
    """Return whether the session of the cookies is valid there."""
    with server.client(cookies=dict(cookies)) as client:
        return client.get("/auth/status").json().get("authenticated", False)


@pytest.mark.parametrize("secret", [provider.SECRET, "another secret"])
@pytest.mark.parametrize(("first", "second"), [("before", "after"), ("after", "before")])
def test_a_login_at_one_side_is_one_at_the_other(sides, idp, first, second, secret):
    """Whichever client secret the provider takes, and with a refresh token that the other one encrypted."""
    idp.secret, idp.expires_in = secret, 2
    with getattr(sides, first).client() as client:
        assert provider.log_in(client).status_code == 302
        cookies = client.cookies
    assert is_logged_in(getattr(sides, first), cookies)
    time.sleep(2.5)
    asked = len(idp.asked)
    assert is_logged_in(getattr(sides, second), cookies)
    assert "token" in idp.asked[asked:]


def test_a_secret_that_is_none_of_them_is_refused(sides, idp):
    idp.secret = "yet another one"
    with sides.before.client() as client:
        provider.log_in(client)
        assert not is_logged_in(sides.before, client.cookies)
    assert idp.asked.count("token") == 2


def test_a_cookie_of_another_key_is_none(sides, idp):
    with sides.after.client() as client:
        provider.log_in(client)
        value = client.cookies["session"]
    assert is_logged_in(sides.after, {"session": value})
    assert not is_logged_in(sides.after, {"session": value[:-4] + "AAAA"})
