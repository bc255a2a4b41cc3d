"""Only administrators choose where an experiment stores its artifacts: with the real servers."""

import secrets

import pytest

from running import server as start

CREATE = "/api/2.0/mlflow/experiments/create"


def created(server, user, location="mlflow-artifacts:/1/x", spelling="artifact_location"):
    """Create an experiment with this artifact location; return the status."""
    body = {"name": secrets.token_hex(4), spelling: location}
    return server.call(user, "POST", CREATE, body).status_code


@pytest.mark.parametrize("mode", ["oidc_server", "basic_server"])
@pytest.mark.parametrize("spelling", ["artifact_location", "artifactLocation"])
def test_users_do_not_choose_the_location(request, mode, spelling):
    server = request.getfixturevalue(mode)
    assert created(server, "ann", spelling=spelling) == 403
    assert created(server, "ann", "s3://other/x", spelling) == 403
    assert created(server, "ann", "") == 200
    assert created(server, "root", spelling=spelling) == 200


def test_without_users_no_caller_chooses_it(none_server):
    assert created(none_server, None) == 403
    assert created(none_server, None, "") == 200


def test_it_can_be_allowed(tmp_path):
    with start(tmp_path, "none", MLOPS_ARTIFACT_LOCATIONS="true") as server:
        assert created(server, None) == 200
