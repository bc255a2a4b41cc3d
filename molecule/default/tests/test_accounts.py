"""Accounts of users and programs, and the credentials of programs, as created by modules and used by clients."""

import datetime
import json
import os
import secrets
import subprocess
import sys

import pytest
import requests

from tests.lib import stack as stacks

ADMIN = "mlflow-admin"
USERS = "/api/2.0/mlflow/users"
KEYS = {f"MLFLOW_TRACKING_{part}" for part in ("URI", "USERNAME", "PASSWORD")}
REVOKED_AFTER = 10  # seconds for which a server may cache credentials


class Modules:
    """Runs modules of the collection with Ansible."""

    def __init__(self, stack, service):
        self.stack = stack
        self.common = {
            "kubeconfig": str(stack.kubeconfig),
            "service": {"namespace": stacks.NAMESPACES["mlflow"], "name": service},
            "admin_secret": {"namespace": stacks.NAMESPACES["mlflow"], "name": ADMIN},
        }

    def __call__(self, module, *words, fails=False, **options):
        """Return the module's result, with Ansible's output in `_output`."""
        command = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", f"mlops.mlflow.{module}", *words]
        done = subprocess.run(
            [
                *command,
                "-a",
                json.dumps({**self.common, **options}),
                "-e",
                f"ansible_python_interpreter={sys.executable}",
            ],
            cwd=stacks.REPOSITORY,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        # The diff comes before the result; so does the output of -vvv.
        answer = done.stdout[done.stdout.index("localhost | ") :].partition("=> ")[2]
        result = json.JSONDecoder().raw_decode(answer)[0]
        return {**result, "_output": output}


@pytest.fixture(scope="module")
def modules(stack):
    return Modules(stack, os.environ.get("MLOPS_TESTS_SERVICE", "mlflow"))


@pytest.fixture
def team(stack, modules, mark):
    """A namespace and the name of a client, removed with everything that belongs to them."""
    name = f"accounts-{mark}-{secrets.token_hex(3)}"
    stack.kubectl("create", "namespace", name)
    yield name
    client = {"name": name, "state": "absent"}
    modules("mlflow_client", clients=[client])
    modules("mlflow_user", service_accounts=[{"name": name, "state": "absent"}])
    stack.kubectl("delete", "namespace", name, "--wait=false")


def credentials(stack, namespace, name="mlflow-credentials"):
    return stack.secret(namespace, name)


def lets_in(stack, username, password):
    answer = requests.get(f"{stack.mlflow_url}{USERS}/current", auth=(username, password), timeout=60)
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


def ends(stack, username, password):
    """Wait until credentials are refused, since a server may cache them for a moment."""
    stacks.wait_until(lambda: not lets_in(stack, username, password), REVOKED_AFTER, f"{username} is still let in")


def test_client_secret_works(stack, modules, team, mark):
    client = {"name": team, "namespaces": [team], "tracking_uri": stack.mlflow_url}
    planned = modules("mlflow_client", "--check", "--diff", clients=[client])
    assert planned["changed"]
    assert stack.core.list_namespaced_secret(team).items == []

    made = modules("mlflow_client", "-vvv", clients=[client])
    again = modules("mlflow_client", clients=[client])

    found = credentials(stack, team)
    assert set(found) == KEYS
    assert found["MLFLOW_TRACKING_PASSWORD"] not in made["_output"]
    assert made["changed"]
    assert not again["changed"]
    assert again["requests"] <= 3
    # The program owns what it creates, and sees nothing else.
    script = """
        import sys, mlflow
        mlflow.set_experiment(sys.argv[1])
        with mlflow.start_run():
            mlflow.log_metric("seen", 1)
        print([each.name for each in mlflow.search_experiments()])
    """
    done = stack.client(
        script, found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"], f"accounts-{mark}"
    )
    assert done.stdout.strip().endswith(f"['accounts-{mark}']")


def test_token_is_renewed_before_the_old_one_expires(stack, modules, plugin, team):
    client = {"name": team, "namespaces": [team], "tracking_uri": stack.mlflow_url}
    modules("mlflow_client", clients=[client])
    old = credentials(stack, team)
    shorter = {**client, "lifetime_days": 20, "renew_before_days": 5, "grace_days": 0}
    if plugin == "basic":  # basic-auth's passwords have no expiry on the server: change the Secret's date instead
        issued = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=16)).isoformat(timespec="seconds")
        stack.kubectl(
            "-n", team, "annotate", "--overwrite", "secret/mlflow-credentials", f"mlops.mlflow/issued={issued}"
        )

    renewed = modules("mlflow_client", clients=[shorter])

    new = credentials(stack, team)
    assert renewed["clients"][0]["renewed"]
    assert new["MLFLOW_TRACKING_PASSWORD"] != old["MLFLOW_TRACKING_PASSWORD"]
    assert lets_in(stack, team, new["MLFLOW_TRACKING_PASSWORD"])
    if plugin == "oidc":
        assert lets_in(stack, team, old["MLFLOW_TRACKING_PASSWORD"])
        assert len(modules("mlflow_client", clients=[shorter])["changes"]) == 1
    ends(stack, team, old["MLFLOW_TRACKING_PASSWORD"])
    assert not modules("mlflow_client", clients=[shorter])["changed"]
    assert lets_in(stack, team, new["MLFLOW_TRACKING_PASSWORD"])


def test_removed_client_is_locked_out(stack, modules, team):
    modules("mlflow_client", clients=[{"name": team, "namespaces": [team], "tracking_uri": stack.mlflow_url}])
    found = credentials(stack, team)
    assert lets_in(stack, team, found["MLFLOW_TRACKING_PASSWORD"])

    gone = modules("mlflow_client", clients=[{"name": team, "state": "absent"}])

    assert gone["changes"][-1].endswith("Secret removed")
    assert stack.core.list_namespaced_secret(team).items == []
    ends(stack, team, found["MLFLOW_TRACKING_PASSWORD"])
    users = modules("mlflow_info", gather=["users"])["users"]
    assert team in [user["name"] for user in users], "the account stays, with what was granted to it"


def test_unmanaged_secret_is_not_changed(stack, modules, team):
    stack.kubectl("-n", team, "create", "secret", "generic", "mlflow-credentials", "--from-literal=theirs=yes")

    result = modules(
        "mlflow_client", clients=[{"name": team, "namespaces": [team], "tracking_uri": "http://x"}], fails=True
    )

    assert "is there already and is not this client's" in result["msg"]
    assert set(credentials(stack, team)) == {"theirs"}


def test_accounts_are_created_changed_and_removed(stack, modules, plugin, mark):
    user, program = f"accounts-user-{mark}", f"accounts-program-{mark}"
    secret = {"namespace": stacks.NAMESPACES["mlflow"], "name": ADMIN, "key": "password"}
    users = [{"name": user, "password_secret": secret}]
    assert modules("mlflow_user", users=users)["changed"]
    assert not modules("mlflow_user", users=users)["changed"]
    assert modules("mlflow_user", service_accounts=[{"name": program}])["changed"]

    change = {"name": user, "admin": True, **({"active": False} if plugin == "oidc" else {})}
    planned = modules("mlflow_user", "--check", users=[change])
    changed = modules("mlflow_user", users=[change])

    assert planned["changes"] == changed["changes"] != []
    found = {each["name"]: each for each in modules("mlflow_info", gather=["users"])["users"]}
    assert found[user]["admin"]
    assert found[user]["active"] == (plugin == "basic")
    assert not found[program]["admin"]
    for module, option, name in (
        ("mlflow_user", "users", user),
        ("mlflow_user", "service_accounts", program),
    ):
        assert modules(module, **{option: [{"name": name, "state": "absent"}]})["changed"]
        assert not modules(module, **{option: [{"name": name, "state": "absent"}]})["changed"]


def test_token_module(stack, modules, team):
    modules("mlflow_user", service_accounts=[{"name": team}])
    token = {"user": team, "name": "spark", "secret": {"namespace": team, "name": "spark"}, "take_over": True}

    modules("mlflow_token", tokens=[token])

    found = credentials(stack, team, "spark")
    assert lets_in(stack, found["username"], found["password"])
    assert not modules("mlflow_token", tokens=[token])["changed"]
    modules("mlflow_token", tokens=[{"user": team, "name": "spark", "state": "absent"}])
    ends(stack, found["username"], found["password"])
    modules("mlflow_user", service_accounts=[{"name": team, "state": "absent"}])


def test_tokens_cannot_issue_tokens_for_users_or_themselves(stack, modules, plugin, team):
    """The playbooks' account can issue tokens for service accounts; service accounts cannot."""
    if plugin == "basic":
        return  # it has none
    modules("mlflow_client", clients=[{"name": team, "namespaces": [team], "tracking_uri": stack.mlflow_url}])
    found = credentials(stack, team)
    admin = credentials(stack, stacks.NAMESPACES["mlflow"], ADMIN)
    ends_at = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()
    with stack.forwarded("mlflow", 5000) as port:
        for account, whose in (
            ((admin["username"], admin["password"]), stacks.USER),
            ((admin["username"], admin["password"]), ADMIN),
            ((admin["username"], admin["password"]), "current"),
            ((team, found["MLFLOW_TRACKING_PASSWORD"]), team),
            ((team, found["MLFLOW_TRACKING_PASSWORD"]), "current"),
        ):
            answer = requests.post(
                f"http://localhost:{port}{USERS}/{whose}/tokens",
                json={"name": "heir", "expiration": ends_at},
                auth=account,
                timeout=60,
            )
            assert answer.status_code == 403, f"{account[0]} for {whose}: {answer.text}"
