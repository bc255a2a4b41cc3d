"""Switch from basic to oidc, to none, and back: what is kept, and what is not.

The tests build on one another.
"""

import json

import access_token
import pytest
import requests

from tests.lib import stack as stacks
from tests.lib.callers import Caller, create, grant

USER = stacks.USER
# Variables of the login page, tested in the same run.
PAGES = json.dumps({"mlflow_oidc_automatic_redirect": True, "mlflow_oidc_landing_page": "permissions"})


@pytest.fixture(scope="module")
def journey(stack, admin, accounts, name):
    """The initial state: a user with permissions, and a group."""
    ada, user = accounts("ada"), accounts(USER, exactly=True)
    things = {
        "ada": ada,
        "user": user,
        "theirs": create(user, f"{name}-theirs"),
        "read": create(ada, f"{name}-read"),
        "by group": create(ada, f"{name}-by-group"),
        "closed": create(ada, f"{name}-closed"),
        "group": f"{name}-group",
    }
    user.well("POST", "2.0/mlflow/registered-models/create", {"name": f"{name}-model"})
    things["run"] = user.well("POST", "2.0/mlflow/runs/create", {"experiment_id": things["theirs"]})["run"]["info"][
        "run_id"
    ]
    grant(admin, user, things["read"], "READ")
    role = admin.well("POST", "3.0/mlflow/roles/create", {"name": things["group"], "workspace": "default"})["role"][
        "id"
    ]
    admin.well(
        "POST",
        "3.0/mlflow/roles/permissions/add",
        {"role_id": role, "resource_type": "experiment", "resource_pattern": things["by group"], "permission": "EDIT"},
    )
    admin.well("POST", "3.0/mlflow/roles/assign", {"role_id": role, "username": user.name})
    yield things
    # Restore the stack, whatever the tests did.
    stack.switch("basic")


def as_browser(stack):
    """The same user, logged in at the identity provider."""
    session = stack.login(USER)

    def call(method, path, body=None, **query):
        return session.request(method, f"{stack.mlflow_url}/api/{path}", json=body, params=query, timeout=60)

    return call


def test_switch_to_an_identity_provider(stack, admin, journey):
    done = stack.switch("oidc", PAGES)
    assert done.count("changed") > 0
    user = as_browser(stack)
    assert user("GET", "2.0/mlflow/runs/get", run_id=journey["run"]).status_code == 200
    assert user("POST", "2.0/mlflow/runs/create", {"experiment_id": journey["theirs"]}).status_code == 200
    assert user("GET", "2.0/mlflow/experiments/get", experiment_id=journey["read"]).status_code == 200
    assert user("POST", "2.0/mlflow/runs/create", {"experiment_id": journey["read"]}).status_code == 403
    assert user("GET", "2.0/mlflow/experiments/get", experiment_id=journey["closed"]).status_code == 403
    # The playbooks' account keeps its password.
    assert admin("GET", "2.0/mlflow/users/current").json()["is_admin"]
    # A password of basic-auth is not valid here.
    assert journey["user"]("GET", "2.0/mlflow/users/current").status_code == 401


def test_groups_and_permissions_were_copied(stack, admin, journey):
    granted = admin.well("GET", f"2.0/mlflow/permissions/groups/{journey['group']}/experiments")
    shown = str(granted)
    assert "EDIT" in shown
    assert stack.sql(
        "mlflow_auth",
        "SELECT u.username FROM user_groups m JOIN users u ON u.id = m.user_id JOIN groups g ON g.id = m.group_id "
        f"WHERE g.group_name = '{journey['group']}'",
    ) in ([[USER]], [])  # a login applies the provider's groups


def test_a_second_run_changes_nothing(stack, journey):
    assert stack.switch("oidc", PAGES).count("changed") == 0


def test_a_login_begins_at_the_provider_and_ends_where_the_inventory_says(stack, journey):
    browser = {"Sec-Fetch-Dest": "document", "Accept": "text/html"}
    front = access_token.new_session().get(stack.mlflow_url, headers=browser, timeout=60)
    assert front.url.startswith(f"{stack.keycloak_url}/"), "there is a page in between"
    seen = []

    def note(answer, **_unused):
        seen.append(answer)

    session = access_token.new_session()
    session.hooks["response"].append(note)
    access_token.login(stack.mlflow_url, USER, stack.password(USER), session)
    ended = next(answer for answer in seen if answer.url.startswith(f"{stack.mlflow_url}/callback"))
    assert ended.headers["Location"] == f"{stack.mlflow_url}/oidc/ui/user"


def test_switch_back_without_revoked_permissions(stack, admin, journey, name):
    """A permission that was revoked in the other mode does not return."""
    path = f"2.0/mlflow/permissions/users/{USER}/experiments/{journey['read']}"
    assert admin("DELETE", path).status_code == 200
    path = f"2.0/mlflow/permissions/users/{USER}/experiments/{journey['closed']}"
    assert admin("POST", path, {"permission": "READ"}).status_code in (200, 201)
    stack.switch("basic")
    user = journey["user"]
    assert user("GET", "2.0/mlflow/users/current").status_code == 200
    assert user("GET", "2.0/mlflow/experiments/get", experiment_id=journey["theirs"]).status_code == 200
    assert user("GET", "2.0/mlflow/experiments/get", experiment_id=journey["closed"]).status_code == 200
    assert user("GET", "2.0/mlflow/experiments/get", experiment_id=journey["read"]).status_code == 403
    assert user("GET", "2.0/mlflow/registered-models/get", name=f"{name}-model").status_code == 200


def test_new_user_has_no_password_until_one_is_set(stack, admin, journey):
    """A user created by a login at the provider exists here, without a valid password."""
    assert stacks.ADMIN not in [
        each["username"] for each in admin.well("GET", "2.0/mlflow/users/list")["users"]
    ] or all(
        Caller(stack.mlflow_url, stacks.ADMIN, password)("GET", "2.0/mlflow/users/current").status_code == 401
        for password in ("", "!", "password1234")
    )


def test_mode_none_requires_confirmation(stack, journey):
    done = stack.playbook("--tags", "mlflow", "-e", "mlflow_auth=none")
    assert done.code != 0
    assert "mlflow_auth_none_is_intended" in done.output


def test_switch_to_none_and_back(stack, journey):
    stack.switch("none", "mlflow_auth_none_is_intended=true", "mlflow_service_type=ClusterIP")
    with stack.each_replica() as replicas:
        answer = requests.get(f"{replicas[0]}/api/2.0/mlflow/runs/get", params={"run_id": journey["run"]}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert requests.get(f"{replicas[0]}/health/ready", timeout=60).json()["checks"] == {"tracking_database": True}
    with pytest.raises(requests.ConnectionError):
        requests.get(stack.mlflow_url, timeout=5)
    stack.switch("basic")
    assert stack.anonymous("GET", "2.0/mlflow/experiments/search", max_results=1).status_code == 401
    assert journey["user"]("GET", "2.0/mlflow/experiments/get", experiment_id=journey["theirs"]).status_code == 200
