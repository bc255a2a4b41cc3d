"""Names that become those of other users are refused."""

import pytest

from mlops_mlflow_server import names


@pytest.mark.parametrize(
    "name", ["kim", "Kim", "kim@example.com", "jürgen", "JÜRGEN", "straße", "Ελένη", "李", "o'neil"]
)
def test_names_of_users(name):
    assert names.is_stable(name)


@pytest.mark.parametrize(
    "name",
    [
        "\N{KELVIN SIGN}im",
        "\N{FULLWIDTH LATIN SMALL LETTER K}im",
        "\N{LATIN SMALL LIGATURE FI}n",
        "\N{LATIN SMALL LETTER LONG S}am",
        "a\N{COMBINING RING ABOVE}",
        "\N{ANGSTROM SIGN}sa",
    ],
)
def test_names_that_stand_for_others(name):
    assert not names.is_stable(name)


def test_login_and_token_of_such_a_name_are_refused(oidc_server, login_provider):
    name = "\N{KELVIN SIGN}im"
    login_provider.groups[name] = login_provider.groups["kim"] = ["people"]
    with pytest.raises(AssertionError):
        login_provider.log_in(oidc_server, name)
    browser = login_provider.log_in(oidc_server, "kim")
    assert browser.get(f"{oidc_server.url}/auth/status", timeout=60).json()["authenticated"]
    url = "/api/2.0/mlflow/users/current"
    for user, status in ((name, 401), ("kim", 200)):
        bearer = {"Authorization": f"Bearer {login_provider.access_token(user, sub='id-of-kim')}"}
        assert oidc_server.call(None, "GET", url, headers=bearer).status_code == status
