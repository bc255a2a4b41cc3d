"""access.yml: who may do what is as declared, which allowed and denied calls show, and is put back when changed."""

import json

import pytest
import requests
import stack as stacks

GROUP = "access-tests"
BOOK = "playbooks/access.yml"
API = "/api/2.0/mlflow"
GRANTS = "/api/3.0/mlops/grants"


@pytest.fixture(scope="module")
def names(mark):
    """The experiments of these tests: declared, covered by a pattern only, and the user's own."""
    return {name: f"access-{mark}-{name}" for name in ("declared", "pattern", "own")}


@pytest.fixture(scope="module")
def converge(stack, names, tmp_path_factory):
    """Runs access.yml with a tree; returns how it ended."""
    path = tmp_path_factory.mktemp("access") / "variables.json"

    def run(permission="READ", *words, exclusive=False, **more):
        group = {
            "members": [stacks.USER],
            "experiments": {names["declared"]: permission},
            "experiment_patterns": {f"^{names['pattern']}$": "READ"},
        }
        tree = {"experiments": [names["declared"], names["pattern"]], "groups": {GROUP: group}, **more}
        variables = {
            "kind_cluster_directory": str(stack.directory),
            "keycloak_groups": [GROUP],
            "mlflow_access": tree,
            "mlflow_access_exclusive": exclusive,
        }
        path.write_text(json.dumps(variables))
        return stack.playbook("-e", f"@{path}", *words, playbook=BOOK)

    yield run
    gone = [{"name": name, "state": "absent"} for name in (names["declared"], names["pattern"])]
    run(experiments=gone, groups={})


@pytest.fixture(scope="module")
def admin(stack, admin_token):
    """What demo-admin gets when asking MLflow."""

    def ask(method, path, **options):
        auth = (stacks.ADMIN, admin_token)
        return requests.request(method, f"{stack.mlflow_url}{path}", auth=auth, timeout=60, **options)

    return ask


@pytest.fixture(scope="module")
def user(stack, user_token):
    """What demo-user gets when asking MLflow."""

    def ask(method, path, **options):
        auth = (stacks.USER, user_token)
        return requests.request(method, f"{stack.mlflow_url}{path}", auth=auth, timeout=60, **options)

    return ask


@pytest.fixture(scope="module")
def made(stack, converge):
    """The tree, converged for the first time; who is in a group is told at the login."""
    done = converge()
    assert done.code == 0, done.output
    stack.login(stacks.USER)
    return done


def number(admin, name):
    answer = admin("GET", f"{API}/experiments/get-by-name", params={"experiment_name": name})
    return answer.json()["experiment"]["experiment_id"]


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
    done = converge()
    assert done.code == 0, done.output
    assert done.count("changed") == 0, done.output


def test_reader_reads_and_does_not_write(made, admin, user, names):
    for name in ("declared", "pattern"):
        experiment = number(admin, names[name])
        allowed_soon(lambda its=experiment: reads(user, its) == 200)
        assert tag(user, experiment) == 403


def test_nobody_else_reads(made, stack, admin, names):
    experiment = number(admin, names["declared"])
    assert requests.get(
        f"{stack.mlflow_url}{API}/experiments/get", params={"experiment_id": experiment}, timeout=60
    ).status_code in (401, 302)


def test_list_of_all_grants_is_for_administrators(made, stack, admin, user):
    """It is a route of our image, by which a run needs few requests."""
    groups = {"params": {"subject": "group"}}
    assert requests.get(f"{stack.mlflow_url}{GRANTS}", **groups, timeout=60).status_code == 401
    assert user("GET", GRANTS, **groups).status_code == 403
    found = admin("GET", GRANTS, **groups).json()["grants"]
    assert GROUP in {each["subject"] for each in found}


def test_what_somebody_changed_is_shown_and_put_back(made, converge, admin, user, names):
    """As the permission page does it: a PATCH of the group's grant."""
    experiment = number(admin, names["declared"])
    path = f"{API}/permissions/groups/{GROUP}/experiments/{experiment}"
    assert admin("PATCH", path, json={"permission": "MANAGE"}).status_code == 200
    allowed_soon(lambda: tag(user, experiment) == 200)

    shown = converge("READ", "--check", "--diff")

    assert shown.code == 0, shown.output
    assert f"group {GROUP}: experiment {names['declared']}: MANAGE -> READ\n" in shown.output
    assert tag(user, experiment) == 200, "check mode changed it"
    assert converge().count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 403)
    assert reads(user, experiment) == 200


def test_declared_change_is_made(made, converge, admin, user, names):
    experiment = number(admin, names["declared"])
    assert converge("EDIT").count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 200)
    assert converge("READ").count("changed") == 1
    allowed_soon(lambda: tag(user, experiment) == 403)


def test_exclusive_takes_away_what_is_not_declared_and_leaves_makers_their_own(made, converge, admin, user, names):
    own = user("POST", f"{API}/experiments/create", json={"name": names["own"]}).json()["experiment_id"]
    experiment = number(admin, names["declared"])
    grant = f"{API}/permissions/users/{stacks.USER}/experiments/{experiment}"
    assert admin("POST", grant, json={"permission": "EDIT"}).status_code < 300
    allowed_soon(lambda: tag(user, experiment) == 200)

    shown = converge("READ", "--check", "--diff", exclusive=True)
    assert f"user {stacks.USER}: experiment {names['declared']}: EDIT -> none\n" in shown.output
    assert names["own"] not in shown.output
    done = converge(exclusive=True)

    assert done.code == 0, done.output
    allowed_soon(lambda: tag(user, experiment) == 403)
    assert tag(user, own) == 200
    assert converge(exclusive=True).count("changed") == 0
    assert user("POST", f"{API}/experiments/delete", json={"experiment_id": own}).status_code == 200


def test_unknown_experiment_is_said_before_anything_is_changed(made, converge, names):
    users = {stacks.USER: {"experiments": {"access-nowhere": "READ"}}}
    group = {GROUP: {"experiments": {names["declared"]: "EDIT", "access-nothing": "READ"}}}

    done = converge(groups=group, users=users)

    assert done.code != 0
    assert done.count("changed") == 0
    assert "MLflow has no experiment access-nothing, on which groups are to have permissions" in " ".join(
        done.output.split()
    )
    assert "Traceback" not in done.output
