"""access.yml applies declared permissions, as allowed and refused calls show, and reverts manual changes.

With oidc, demo-user is the only user of these tests; with basic, the tree creates one. Both trees have a service
account with a token, and a client with a namespace.
"""

import dataclasses
import json

import pytest
import requests

from tests.lib import stack as stacks

GROUP = "access-tests"
BOOK = "playbooks/access.yml"
API = "/api/2.0/mlflow"
API3 = "/api/3.0/mlflow"
GRANTS = "/api/3.0/mlops/grants"
MLFLOW = stacks.NAMESPACES["mlflow"]


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of these tests' objects and accounts.

    Attributes:
        plugin: the authorization plugin, `oidc` or `basic`.
        declared: an experiment of the tree.
        pattern: another one, covered only by a pattern.
        own: an experiment that the user creates.
        program: an experiment that a pod creates.
        user: the member of the group.
        undeclared: an account that is not declared.
        robot: a service account of the tree, with a token.
        client: a program of mlflow_clients, and its namespace.
    """

    plugin: str
    declared: str
    pattern: str
    own: str
    program: str
    user: str
    undeclared: str
    robot: str
    client: str

    @property
    def experiments(self):
        return (self.declared, self.pattern, self.own, self.program)

    @property
    def accounts(self):
        """The accounts that are these tests' own."""
        return [name for name in (self.user, self.undeclared, self.robot, self.client) if name != stacks.USER]


@pytest.fixture(scope="module")
def names(mark, plugin):
    made = {field.name: f"access-{mark}-{field.name}" for field in dataclasses.fields(Names)}
    made["plugin"] = plugin
    if plugin == "oidc":
        made["user"] = stacks.USER
    return Names(**made)


def asking(stack, name, password):
    """Return a function that sends a request with these credentials."""

    def ask(method, path, **options):
        return requests.request(method, f"{stack.mlflow_url}{path}", auth=(name, password), timeout=60, **options)

    return ask


@pytest.fixture(scope="module")
def admin(stack):
    """Send requests as the playbooks' account."""
    found = stack.secret(MLFLOW, "mlflow-admin")
    return asking(stack, found["username"], found["password"])


@pytest.fixture(scope="module")
def team(stack, names):
    """The namespace of the programs."""
    stack.kubectl("create", "namespace", names.client)
    yield names.client
    stack.kubectl("delete", "namespace", names.client, "--wait=false")


def tree(names, permission):
    """The variable mlflow_access."""
    robot = {
        "experiments": {names.declared: "READ"},
        "tokens": [{"name": "ci", "secret": {"namespace": names.client, "name": "robot"}}],
    }
    group = {
        "members": [names.user],
        "experiments": {names.declared: permission},
        "experiment_patterns": {f"^{names.pattern}$": "READ"},
    }
    found = {
        "experiments": [names.declared, names.pattern],
        "groups": {GROUP: group},
        "service_accounts": {names.robot: robot},
    }
    return found if names.plugin == "oidc" else {**found, "users": {names.user: {}}}


def remove(stack, admin, names):
    """Remove the tests' objects, without running the playbook."""
    for name in names.experiments:
        found = admin("GET", f"{API}/experiments/get-by-name", params={"experiment_name": name})
        if found.status_code == 200:
            body = {"experiment_id": found.json()["experiment"]["experiment_id"]}
            admin("POST", f"{API}/experiments/delete", json=body)
    for name in names.accounts:
        admin("DELETE", f"{API}/users{'' if names.plugin == 'oidc' else '/delete'}", json={"username": name})
    if names.plugin == "basic":
        for group in roles(admin):
            admin("DELETE", f"{API3}/roles/delete", json={"role_id": group["id"]})
        stack.kubectl("-n", MLFLOW, "delete", "secret", "mlflow-users", "--ignore-not-found")


@pytest.fixture(scope="module")
def converge(stack, names, team, admin, tmp_path_factory):
    """A function that runs access.yml with a tree and returns its result."""
    path = tmp_path_factory.mktemp("access") / "variables.json"
    login = {"keycloak_groups": [GROUP]}
    if names.plugin == "basic":
        # From the inventory of that scenario, which this stack does not load.
        login = {"mlflow_auth": "basic", "mlflow_kubernetes_namespaces": []}

    def run(permission="READ", *words, exclusive=False, **more):
        variables = {
            "kind_cluster_directory": str(stack.directory),
            "mlflow_access": {**tree(names, permission), **more},
            "mlflow_access_exclusive": exclusive,
            "mlflow_clients": [{"name": names.client, "namespaces": [team]}],
            **login,
        }
        path.write_text(json.dumps(variables))
        return stack.playbook("-e", f"@{path}", *words, playbook=BOOK)

    yield run
    remove(stack, admin, names)


@pytest.fixture(scope="module")
def made(stack, names, converge):
    """The first run with the tree. With oidc, group membership becomes known at a login."""
    done = converge()
    assert done.code == 0, done.output
    if names.plugin == "oidc":
        stack.login(stacks.USER)
    return done


@pytest.fixture(scope="module")
def user(stack, names, made, request):
    """Send requests as the user."""
    if names.plugin == "oidc":
        return asking(stack, names.user, request.getfixturevalue("user_token"))
    return asking(stack, names.user, stack.secret(MLFLOW, "mlflow-users")[names.user])


def number(admin, name):
    answer = admin("GET", f"{API}/experiments/get-by-name", params={"experiment_name": name})
    return answer.json()["experiment"]["experiment_id"]


def roles(admin):
    """Return basic-auth's role of the group with its permissions, as a list of at most one."""
    return [each for each in admin("GET", f"{API3}/roles/list").json()["roles"] if each["name"] == GROUP]


def regrant(admin, names, experiment, permission):
    """Change a permission of the group, as the permissions page does."""
    if names.plugin == "oidc":
        path, body = f"{API}/permissions/groups/{GROUP}/experiments/{experiment}", {"permission": permission}
    else:
        (group,) = roles(admin)
        (row,) = [each for each in group["permissions"] if each["resource_pattern"] == experiment]
        path, body = f"{API3}/roles/permissions/update", {"role_permission_id": row["id"], "permission": permission}
    answer = admin("PATCH", path, json=body)
    assert answer.status_code == 200, answer.text


def share(admin, names, experiment, permission):
    """Grant the user a permission, as the permissions page does."""
    path, body = f"{API}/permissions/users/{names.user}/experiments/{experiment}", {"permission": permission}
    if names.plugin == "basic":
        path = f"{API3}/users/permissions/grant"
        body |= {"username": names.user, "resource_type": "experiment", "resource_id": experiment}
    answer = admin("POST", path, json=body)
    assert answer.status_code < 300, answer.text


def tag(ask, experiment):
    """Return the status of a request that changes an experiment."""
    body = {"experiment_id": experiment, "key": "tests", "value": "1"}
    return ask("POST", f"{API}/experiments/set-experiment-tag", json=body).status_code


def reads(ask, experiment):
    return ask("GET", f"{API}/experiments/get", params={"experiment_id": experiment}).status_code


def allowed_soon(condition):
    """Wait for a permission, since servers cache permissions for mlflow_permission_cache_seconds."""
    stacks.wait_until(condition, 20, "the permission")


def test_first_run_reports_changes(made):
    assert made.count("changed") > 0


def test_second_run_changes_nothing(made, converge):
    """Including the token of a service account and the Secret of a client."""
    done = converge()
    assert done.code == 0, done.output
    assert done.count("changed") == 0, done.output


def test_reader_can_read_but_not_write(made, admin, user, names):
    for name in (names.declared, names.pattern):
        experiment = number(admin, name)
        allowed_soon(lambda each=experiment: reads(user, each) == 200)
        assert tag(user, experiment) == 403


def test_anonymous_read_is_refused(made, stack, admin, names):
    experiment = number(admin, names.declared)
    assert requests.get(
        f"{stack.mlflow_url}{API}/experiments/get", params={"experiment_id": experiment}, timeout=60
    ).status_code in (401, 302)


def test_service_account_has_granted_permissions_only(made, stack, admin, team, names):
    found = stack.secret(team, "robot")
    assert found["username"] == names.robot
    robot = asking(stack, found["username"], found["password"])
    assert reads(robot, number(admin, names.declared)) == 200
    assert tag(robot, number(admin, names.declared)) == 403
    assert reads(robot, number(admin, names.pattern)) == 403


def test_job_uses_the_client_secret_of_its_namespace(made, stack, admin, team, names):
    """The example Job gets MLflow's URL and its credentials from the Secret."""
    well, output = stack.run_example("job-with-secret.yaml", team, {"training-with-secret": names.program})
    assert well, output
    run = admin("GET", f"{API}/runs/get", params={"run_id": output.rpartition("logged ")[2].split()[0]}).json()["run"]
    assert run["info"]["experiment_id"] == number(admin, names.program)
    found = stack.secret(team, "mlflow-credentials")
    assert found["MLFLOW_TRACKING_USERNAME"] == names.client
    client = asking(stack, found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"])
    assert reads(client, number(admin, names.declared)) == 403


def test_only_administrators_list_all_grants(made, stack, names, admin, user):
    """The route is part of our image and saves requests."""
    if names.plugin == "basic":
        pytest.skip("basic-auth has its own list")
    groups = {"params": {"subject": "group"}}
    assert requests.get(f"{stack.mlflow_url}{GRANTS}", **groups, timeout=60).status_code == 401
    assert user("GET", GRANTS, **groups).status_code == 403
    found = admin("GET", GRANTS, **groups).json()["grants"]
    assert GROUP in {each["subject"] for each in found}


def test_manual_change_is_shown_and_reverted(made, converge, admin, user, names):
    experiment = number(admin, names.declared)
    regrant(admin, names, experiment, "MANAGE")
    allowed_soon(lambda: tag(user, experiment) == 200)

    shown = converge("READ", "--check", "--diff")

    assert shown.code == 0, shown.output
    assert f"group {GROUP}: experiment {names.declared}: MANAGE -> READ\n" in shown.output
    assert tag(user, experiment) == 200, "check mode changed it"
    assert converge().count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 403)
    assert reads(user, experiment) == 200


def test_declared_change_is_applied(made, converge, admin, user, names):
    if names.plugin == "basic":
        pytest.skip("covered by the reverted manual change; each run takes seconds")
    experiment = number(admin, names.declared)
    assert converge("EDIT").count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 200)
    assert converge("READ").count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 403)


def test_exclusive_revokes_undeclared_permissions_but_not_owners(made, converge, admin, user, names):
    own = user("POST", f"{API}/experiments/create", json={"name": names.own}).json()["experiment_id"]
    experiment = number(admin, names.declared)
    share(admin, names, experiment, "EDIT")
    allowed_soon(lambda: tag(user, experiment) == 200)

    shown = converge("READ", "--check", "--diff", exclusive=True)
    assert f"user {names.user}: experiment {names.declared}: EDIT -> none\n" in shown.output
    assert names.own not in shown.output
    done = converge(exclusive=True)

    assert done.code == 0, done.output
    allowed_soon(lambda: tag(user, experiment) == 403)
    assert tag(user, own) == 200
    assert converge(exclusive=True).count("changed") == 0
    assert user("POST", f"{API}/experiments/delete", json={"experiment_id": own}).status_code == 200


def test_exclusive_refuses_to_remove_the_last_administrator(made, converge, admin, names):
    """The only administrator besides the playbooks' account keeps the right, even if undeclared."""
    if names.plugin == "oidc":
        pytest.skip("the provider's groups determine the administrators")
    body = {"username": names.undeclared, "password": "an unused password"}
    assert admin("POST", f"{API}/users/create", json=body).status_code == 200
    body = {"username": names.undeclared, "is_admin": True}
    assert admin("PATCH", f"{API}/users/update-admin", json=body).status_code == 200

    done = converge(exclusive=True)

    assert done.code != 0
    assert done.count("changed") == 0
    assert f"exclusive would take the right to administer from {names.undeclared}" in " ".join(done.output.split())
    assert admin("GET", f"{API}/users/get", params={"username": names.undeclared}).json()["user"]["is_admin"]


def test_unknown_experiment_fails_before_any_change(made, converge, names):
    users = {names.user: {"experiments": {"access-nowhere": "READ"}}}
    group = {GROUP: {"experiments": {names.declared: "EDIT", "access-nothing": "READ"}}}

    done = converge(groups=group, users=users)

    assert done.code != 0
    assert done.count("changed") == 0
    assert "MLflow has no experiment access-nothing, on which groups are to have permissions" in " ".join(
        done.output.split()
    )
    assert "Traceback" not in done.output
