"""From accounts in MLflow to a provider of identities, to no login at all, and back: what is kept, and what is not.

The tests stand in the order of a journey, and each needs what came before.
"""

import json

import access_token
import pytest
import requests

from tests.lib import stack as stacks
from tests.lib.callers import Caller, create, grant

PERSON = stacks.USER
# Where a login begins and ends, which is tried along with the way there.
PAGES = json.dumps({"mlflow_oidc_automatic_redirect": True, "mlflow_oidc_landing_page": "permissions"})


@pytest.fixture(scope="module")
def journey(stack, admin, people, name):
    """What there is at the start: a person with permissions, and a group."""
    ada, person = people("ada"), people(PERSON, exactly=True)
    things = {
        "ada": ada,
        "person": person,
        "theirs": create(person, f"{name}-theirs"),
        "read": create(ada, f"{name}-read"),
        "by group": create(ada, f"{name}-by-group"),
        "closed": create(ada, f"{name}-closed"),
        "group": f"{name}-group",
    }
    person.well("POST", "2.0/mlflow/registered-models/create", {"name": f"{name}-model"})
    things["run"] = person.well("POST", "2.0/mlflow/runs/create", {"experiment_id": things["theirs"]})["run"]["info"][
        "run_id"
    ]
    grant(admin, person, things["read"], "READ")
    role = admin.well("POST", "3.0/mlflow/roles/create", {"name": things["group"], "workspace": "default"})["role"][
        "id"
    ]
    admin.well(
        "POST",
        "3.0/mlflow/roles/permissions/add",
        {"role_id": role, "resource_type": "experiment", "resource_pattern": things["by group"], "permission": "EDIT"},
    )
    admin.well("POST", "3.0/mlflow/roles/assign", {"role_id": role, "username": person.name})
    yield things
    # Whatever became of the tests, the stack is as it was.
    stack.switch("basic")


def as_browser(stack):
    """The same person, logged in at the identity provider."""
    session = stack.login(PERSON)

    def call(method, path, body=None, **query):
        return session.request(method, f"{stack.mlflow_url}/api/{path}", json=body, params=query, timeout=60)

    return call


def test_to_a_provider_of_identities(stack, admin, journey):
    done = stack.switch("oidc", PAGES)
    assert done.count("changed") > 0
    person = as_browser(stack)
    assert person("GET", "2.0/mlflow/runs/get", run_id=journey["run"]).status_code == 200
    assert person("POST", "2.0/mlflow/runs/create", {"experiment_id": journey["theirs"]}).status_code == 200
    assert person("GET", "2.0/mlflow/experiments/get", experiment_id=journey["read"]).status_code == 200
    assert person("POST", "2.0/mlflow/runs/create", {"experiment_id": journey["read"]}).status_code == 403
    assert person("GET", "2.0/mlflow/experiments/get", experiment_id=journey["closed"]).status_code == 403
    # The playbooks' account comes with the same password.
    assert admin("GET", "2.0/mlflow/users/current").json()["is_admin"]
    # A password of MLflow's own is none here.
    assert journey["person"]("GET", "2.0/mlflow/users/current").status_code == 401


def test_groups_and_their_permissions_came_along(stack, admin, journey):
    granted = admin.well("GET", f"2.0/mlflow/permissions/groups/{journey['group']}/experiments")
    shown = str(granted)
    assert "EDIT" in shown
    assert stack.sql(
        "mlflow_auth",
        "SELECT u.username FROM user_groups m JOIN users u ON u.id = m.user_id JOIN groups g ON g.id = m.group_id "
        f"WHERE g.group_name = '{journey['group']}'",
    ) in ([[PERSON]], [])  # at a login the provider's groups are the ones that count


def test_a_second_run_changes_nothing(stack, journey):
    assert stack.switch("oidc", PAGES).count("changed") == 0


def test_a_login_begins_at_the_provider_and_ends_where_the_inventory_says(stack, journey):
    browser = {"Sec-Fetch-Dest": "document", "Accept": "text/html"}
    front = access_token.new_session().get(stack.mlflow_url, headers=browser, timeout=60)
    assert front.url.startswith(f"{stack.keycloak_url}/"), "there is a page in between"
    seen = []

    def note(answer, **_):
        seen.append(answer)

    session = access_token.new_session()
    session.hooks["response"].append(note)
    access_token.login(stack.mlflow_url, PERSON, stack.password(PERSON), session)
    ended = next(answer for answer in seen if answer.url.startswith(f"{stack.mlflow_url}/callback"))
    assert ended.headers["Location"] == f"{stack.mlflow_url}/oidc/ui/user"


def test_back_without_what_was_taken_back(stack, admin, journey, name):
    """A grant that was taken back under the other way to log in does not return with the old tables."""
    path = f"2.0/mlflow/permissions/users/{PERSON}/experiments/{journey['read']}"
    assert admin("DELETE", path).status_code == 200
    path = f"2.0/mlflow/permissions/users/{PERSON}/experiments/{journey['closed']}"
    assert admin("POST", path, {"permission": "READ"}).status_code in (200, 201)
    stack.switch("basic")
    person = journey["person"]
    assert person("GET", "2.0/mlflow/users/current").status_code == 200
    assert person("GET", "2.0/mlflow/experiments/get", experiment_id=journey["theirs"]).status_code == 200
    assert person("GET", "2.0/mlflow/experiments/get", experiment_id=journey["closed"]).status_code == 200
    assert person("GET", "2.0/mlflow/experiments/get", experiment_id=journey["read"]).status_code == 403
    assert person("GET", "2.0/mlflow/registered-models/get", name=f"{name}-model").status_code == 200


def test_who_is_new_has_no_password_until_one_is_given(stack, admin, journey):
    """Whoever was made by a login at the provider is known here, and let in by no password."""
    assert stacks.ADMIN not in [
        each["username"] for each in admin.well("GET", "2.0/mlflow/users/list")["users"]
    ] or all(
        Caller(stack.mlflow_url, stacks.ADMIN, password)("GET", "2.0/mlflow/users/current").status_code == 401
        for password in ("", "!", "password1234")
    )


def test_no_login_has_to_be_meant(stack, journey):
    done = stack.playbook("--tags", "mlflow", "-e", "mlflow_auth=none")
    assert done.code != 0
    assert "mlflow_auth_none_is_intended" in done.output


def test_no_login_and_back(stack, journey):
    stack.switch("none", "mlflow_auth_none_is_intended=true", "mlflow_service_type=ClusterIP")
    with stack.each_replica() as replicas:
        answer = requests.get(f"{replicas[0]}/api/2.0/mlflow/runs/get", params={"run_id": journey["run"]}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert requests.get(f"{replicas[0]}/health/ready", timeout=60).json()["checks"] == {"tracking_database": True}
    with pytest.raises(requests.ConnectionError):
        requests.get(stack.mlflow_url, timeout=5)
    stack.switch("basic")
    assert stack.anybody("GET", "2.0/mlflow/experiments/search", max_results=1).status_code == 401
    assert journey["person"]("GET", "2.0/mlflow/experiments/get", experiment_id=journey["theirs"]).status_code == 200
