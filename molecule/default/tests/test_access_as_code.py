"""access.yml: who may do what is as declared, which allowed and denied calls show, and is put back when changed.

Where people log in at Keycloak, demo-user is the one person of these tests; where accounts are MLflow's own, the tree
makes one. A program with a token and one with an account for its namespace are in the tree of both.
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
    """What these tests make, and for whom.

    Attributes:
        plugin: what authorizes, `oidc` or `basic`.
        declared: an experiment of the tree.
        pattern: another one, which is covered by a pattern only.
        own: an experiment that the person makes.
        program: an experiment that a pod makes.
        person: who is in the group.
        stranger: an account that nobody declares.
        robot: a service account of the tree, with a token.
        client: a program of mlflow_clients, and its namespace.
    """

    plugin: str
    declared: str
    pattern: str
    own: str
    program: str
    person: str
    stranger: str
    robot: str
    client: str

    @property
    def experiments(self):
        return (self.declared, self.pattern, self.own, self.program)

    @property
    def accounts(self):
        """The accounts that are these tests' own."""
        return [name for name in (self.person, self.stranger, self.robot, self.client) if name != stacks.USER]


@pytest.fixture(scope="module")
def names(mark, plugin):
    made = {field.name: f"access-{mark}-{field.name}" for field in dataclasses.fields(Names)}
    made["plugin"] = plugin
    if plugin == "oidc":
        made["person"] = stacks.USER
    return Names(**made)


def asking(stack, name, password):
    """What somebody gets when asking MLflow: a function of method, path and options."""

    def ask(method, path, **options):
        return requests.request(method, f"{stack.mlflow_url}{path}", auth=(name, password), timeout=60, **options)

    return ask


@pytest.fixture(scope="module")
def admin(stack):
    """What the account of the playbooks gets."""
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
        "members": [names.person],
        "experiments": {names.declared: permission},
        "experiment_patterns": {f"^{names.pattern}$": "READ"},
    }
    found = {
        "experiments": [names.declared, names.pattern],
        "groups": {GROUP: group},
        "service_accounts": {names.robot: robot},
    }
    return found if names.plugin == "oidc" else {**found, "users": {names.person: {}}}


def remove(stack, admin, names):
    """Takes away what the tests made, without a run of the playbook."""
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
    """Runs access.yml with a tree; returns how it ended."""
    path = tmp_path_factory.mktemp("access") / "variables.json"
    login = {"keycloak_groups": [GROUP]}
    if names.plugin == "basic":
        # As the inventory of that scenario says, of which this stack knows nothing.
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
    """The tree, converged for the first time; a provider tells who is in a group at the login."""
    done = converge()
    assert done.code == 0, done.output
    if names.plugin == "oidc":
        stack.login(stacks.USER)
    return done


@pytest.fixture(scope="module")
def user(stack, names, made, request):
    """What the person gets."""
    if names.plugin == "oidc":
        return asking(stack, names.person, request.getfixturevalue("user_token"))
    return asking(stack, names.person, stack.secret(MLFLOW, "mlflow-users")[names.person])


def number(admin, name):
    answer = admin("GET", f"{API}/experiments/get-by-name", params={"experiment_name": name})
    return answer.json()["experiment"]["experiment_id"]


def roles(admin):
    """The group as basic-auth has it, with its permissions; a list of one at most."""
    return [each for each in admin("GET", f"{API3}/roles/list").json()["roles"] if each["name"] == GROUP]


def regrant(admin, names, experiment, permission):
    """Changes what the group may do, as the page of permissions does it."""
    if names.plugin == "oidc":
        path, body = f"{API}/permissions/groups/{GROUP}/experiments/{experiment}", {"permission": permission}
    else:
        (group,) = roles(admin)
        (row,) = [each for each in group["permissions"] if each["resource_pattern"] == experiment]
        path, body = f"{API3}/roles/permissions/update", {"role_permission_id": row["id"], "permission": permission}
    answer = admin("PATCH", path, json=body)
    assert answer.status_code == 200, answer.text


def share(admin, names, experiment, permission):
    """Gives the person a permission, as sharing by hand does it."""
    path, body = f"{API}/permissions/users/{names.person}/experiments/{experiment}", {"permission": permission}
    if names.plugin == "basic":
        path = f"{API3}/users/permissions/grant"
        body |= {"username": names.person, "resource_type": "experiment", "resource_id": experiment}
    answer = admin("POST", path, json=body)
    assert answer.status_code < 300, answer.text


def tag(ask, experiment):
    """The status of a change to an experiment."""
    body = {"experiment_id": experiment, "key": "tests", "value": "1"}
    return ask("POST", f"{API}/experiments/set-experiment-tag", json=body).status_code


def reads(ask, experiment):
    return ask("GET", f"{API}/experiments/get", params={"experiment_id": experiment}).status_code


def allowed_soon(condition):
    """Servers go by grants that they read up to mlflow_permission_cache_seconds ago."""
    stacks.wait_until(condition, 20, "the permission")


def test_first_run_makes_it(made):
    assert made.count("changed") > 0


def test_second_run_changes_nothing(made, converge):
    """With the token of a service account and the Secret of a client, too."""
    done = converge()
    assert done.code == 0, done.output
    assert done.count("changed") == 0, done.output


def test_reader_reads_and_does_not_write(made, admin, user, names):
    for name in (names.declared, names.pattern):
        experiment = number(admin, name)
        allowed_soon(lambda its=experiment: reads(user, its) == 200)
        assert tag(user, experiment) == 403


def test_nobody_else_reads(made, stack, admin, names):
    experiment = number(admin, names.declared)
    assert requests.get(
        f"{stack.mlflow_url}{API}/experiments/get", params={"experiment_id": experiment}, timeout=60
    ).status_code in (401, 302)


def test_program_with_a_token_may_do_what_was_granted_to_it(made, stack, admin, team, names):
    found = stack.secret(team, "robot")
    assert found["username"] == names.robot
    robot = asking(stack, found["username"], found["password"])
    assert reads(robot, number(admin, names.declared)) == 200
    assert tag(robot, number(admin, names.declared)) == 403
    assert reads(robot, number(admin, names.pattern)) == 403


def test_pod_works_with_the_secret_of_its_namespace(made, stack, admin, team, names):
    """A Job as in the examples: its environment is the Secret, in which is where MLflow is and who calls."""
    well, output = stack.run_example("job-with-secret.yaml", team, {"training-with-secret": names.program})
    assert well, output
    run = admin("GET", f"{API}/runs/get", params={"run_id": output.rpartition("logged ")[2].split()[0]}).json()["run"]
    assert run["info"]["experiment_id"] == number(admin, names.program)
    found = stack.secret(team, "mlflow-credentials")
    assert found["MLFLOW_TRACKING_USERNAME"] == names.client
    client = asking(stack, found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"])
    assert reads(client, number(admin, names.declared)) == 403


def test_list_of_all_grants_is_for_administrators(made, stack, names, admin, user):
    """It is a route of our image, by which a run needs few requests."""
    if names.plugin == "basic":
        pytest.skip("basic-auth has such a list of its own")
    groups = {"params": {"subject": "group"}}
    assert requests.get(f"{stack.mlflow_url}{GRANTS}", **groups, timeout=60).status_code == 401
    assert user("GET", GRANTS, **groups).status_code == 403
    found = admin("GET", GRANTS, **groups).json()["grants"]
    assert GROUP in {each["subject"] for each in found}


def test_what_somebody_changed_is_shown_and_put_back(made, converge, admin, user, names):
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


def test_declared_change_is_made(made, converge, admin, user, names):
    if names.plugin == "basic":
        pytest.skip("the way that it is put back is the way that it is changed, and each run takes its time")
    experiment = number(admin, names.declared)
    assert converge("EDIT").count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 200)
    assert converge("READ").count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 403)


def test_exclusive_takes_away_what_is_not_declared_and_leaves_makers_their_own(made, converge, admin, user, names):
    own = user("POST", f"{API}/experiments/create", json={"name": names.own}).json()["experiment_id"]
    experiment = number(admin, names.declared)
    share(admin, names, experiment, "EDIT")
    allowed_soon(lambda: tag(user, experiment) == 200)

    shown = converge("READ", "--check", "--diff", exclusive=True)
    assert f"user {names.person}: experiment {names.declared}: EDIT -> none\n" in shown.output
    assert names.own not in shown.output
    done = converge(exclusive=True)

    assert done.code == 0, done.output
    allowed_soon(lambda: tag(user, experiment) == 403)
    assert tag(user, own) == 200
    assert converge(exclusive=True).count("changed") == 0
    assert user("POST", f"{API}/experiments/delete", json={"experiment_id": own}).status_code == 200


def test_exclusive_leaves_an_administrator(made, converge, admin, names):
    """Whoever was made one by hand is not taken the right from, if nobody else but the playbooks' account had it."""
    if names.plugin == "oidc":
        pytest.skip("the provider's groups say who administers")
    body = {"username": names.stranger, "password": "a password of nobody's"}
    assert admin("POST", f"{API}/users/create", json=body).status_code == 200
    body = {"username": names.stranger, "is_admin": True}
    assert admin("PATCH", f"{API}/users/update-admin", json=body).status_code == 200

    done = converge(exclusive=True)

    assert done.code != 0
    assert done.count("changed") == 0
    assert f"exclusive would take the right to administer from {names.stranger}" in " ".join(done.output.split())
    assert admin("GET", f"{API}/users/get", params={"username": names.stranger}).json()["user"]["is_admin"]


def test_unknown_experiment_is_said_before_anything_is_changed(made, converge, names):
    users = {names.person: {"experiments": {"access-nowhere": "READ"}}}
    group = {GROUP: {"experiments": {names.declared: "EDIT", "access-nothing": "READ"}}}

    done = converge(groups=group, users=users)

    assert done.code != 0
    assert done.count("changed") == 0
    assert "MLflow has no experiment access-nothing, on which groups are to have permissions" in " ".join(
        done.output.split()
    )
    assert "Traceback" not in done.output
