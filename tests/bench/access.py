"""The duration of access.yml for a large organization: first and second run."""

import base64
import contextlib
import json
import pathlib
import tempfile

import requests

from tests.bench.converge import ConvergeError, play
from tests.bench.report import Figure, Part

USERS, GROUPS, PERMISSIONS = 200, 20, 500
EXPERIMENTS, MODELS = 60, 20
AIMS = {"first": 20, "second": 5, "exclusive": 5}  # seconds
REQUESTS_AIM = 60
BOOK = "playbooks/access.yml"
MARK = "access-bench"

# Rows that refer to users and groups of the benchmark in any table of mlflow-oidc-auth, then these themselves.
REMOVAL = f"""
do $$
declare each record;
begin
  for each in select table_name, column_name from information_schema.columns
    where table_schema = 'public' and column_name in ('user_id', 'group_id')
  loop
    execute format(
      'delete from %I where %I in (select id from %I where %I like ''{MARK}-%%'')', each.table_name, each.column_name,
      case each.column_name when 'user_id' then 'users' else 'groups' end,
      case each.column_name when 'user_id' then 'username' else 'group_name' end);
  end loop;
end $$;
delete from users where username like '{MARK}-%';
delete from groups where group_name like '{MARK}-%';
"""


def tree():
    """Return the variables: each group has 20 permissions, and every second user one."""
    users = [f"{MARK}-user-{number:03}" for number in range(USERS)]
    groups = [f"{MARK}-group-{number:02}" for number in range(GROUPS)]
    experiments = [f"{MARK}/experiment-{number:02}" for number in range(EXPERIMENTS)]
    models = [f"{MARK}-model-{number:02}" for number in range(MODELS)]
    access = {"experiments": experiments, "registered_models": models, "groups": {}, "users": {}}
    for number, group in enumerate(groups):
        access["groups"][group] = {
            "members": [user for each, user in enumerate(users) if each % GROUPS in (number, (number + 7) % GROUPS)],
            "experiments": {experiments[(number * 3 + each) % EXPERIMENTS]: "EDIT" for each in range(12)},
            "experiment_patterns": {f"^{MARK}/team-{number}-{each}-": "READ" for each in range(3)},
            "registered_models": {models[(number + each) % MODELS]: "READ" for each in range(4)},
            "prompt_patterns": {f"^{MARK}-{number}-": "EDIT"},
        }
    for number, user in enumerate(users):
        access["users"][user] = {"experiments": {experiments[number % EXPERIMENTS]: "READ"}} if number % 2 else {}
    users = [
        {"name": user, "email": f"{user}@example.com", "first_name": "A", "last_name": user, "groups": ["mlflow-users"]}
        for user in users
    ]
    return {
        "mlflow_access": access,
        "keycloak_groups": groups,
        "keycloak_users": users,
        # A separate realm and Secret, which are removed again.
        "keycloak_realm": MARK,
        "keycloak_users_secret": f"{MARK}-users",
        "platform_secrets_backend": "kubernetes",
    }


def directory_of(stack):
    """Where the stack's kubeconfig is, which may be another checkout's."""
    return "-e", f"kind_cluster_directory={stack.directory}"


def count(access):
    """Return the number of permissions in a tree."""
    subjects = [*access["groups"].values(), *access["users"].values()]
    return sum(len(value) for each in subjects for key, value in each.items() if key != "members")


def remove(stack, variables, namespace):
    """Remove what the runs created; MLflow keeps deleted experiments."""
    gone = {
        "experiments": [{"name": each, "state": "absent"} for each in variables["mlflow_access"]["experiments"]],
        "registered_models": [
            {"name": each, "state": "absent"} for each in variables["mlflow_access"]["registered_models"]
        ],
    }
    with given({**variables, "mlflow_access": gone, "keycloak_users": []}) as path:
        play(stack, *directory_of(stack), "-e", f"@{path}", "-e", '{"platform_components": []}', playbook=BOOK)
    database = stack.variables.get("mlflow_authdb_name", "mlflow_auth")
    stack.sql(database, REMOVAL)
    stack.kubectl("-n", namespace, "delete", "secret", f"{MARK}-users", "--ignore-not-found")
    account = stack.core.read_namespaced_secret("keycloak-admin", "keycloak").data
    account = {name: base64.b64decode(account[name]).decode() for name in ("username", "password")}
    session = requests.post(
        f"{stack.keycloak_url}/realms/master/protocol/openid-connect/token",
        data={"grant_type": "password", "client_id": "admin-cli", **account},
        timeout=60,
    ).json()
    headers = {"Authorization": f"Bearer {session['access_token']}"}
    requests.delete(f"{stack.keycloak_url}/admin/realms/{MARK}", headers=headers, timeout=120)


@contextlib.contextmanager
def given(variables):
    """Write variables to a file for -e."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "variables.json"
        path.write_text(json.dumps(variables))
        yield path


def requests_of(calls):
    """Return the number of requests that modules and actions sent."""
    return sum(call.get("requests") or 0 for call in calls)


def measure(stack):
    """Measure the first and the second run of access.yml."""
    variables = tree()
    permissions = count(variables["mlflow_access"])
    if permissions != PERMISSIONS:
        raise RuntimeError(f"the tree has {permissions} permissions, and not {PERMISSIONS}")
    components = {"platform_components": ["keycloak"]}
    words = (*directory_of(stack), "-e", json.dumps(components))
    runs = {}
    failed = True
    try:
        for which, more in (
            ("first", {}),
            ("second", {}),
            # Would revoke undeclared permissions of others, so only in check mode.
            ("exclusive", {"mlflow_access_exclusive": True}),
        ):
            if which == "exclusive":
                admin = dict(variables["keycloak_users"][0], groups=["mlflow-users", "mlflow-admins"])
                more["keycloak_users"] = [admin, *variables["keycloak_users"][1:]]
            with given({**variables, **more}) as path:
                check = ("--check",) if which == "exclusive" else ()
                runs[which] = play(stack, *words, "-e", f"@{path}", *check, playbook=BOOK)
        failed = False
    finally:
        # Report the first failure.
        with contextlib.suppress(ConvergeError) if failed else contextlib.nullcontext():
            remove(stack, variables, "keycloak")
    part = Part(
        f"access.yml for {USERS} users, {GROUPS} groups and {PERMISSIONS} permissions",
        "Time of ansible-playbook from its start to its end, and the requests that its modules sent to MLflow and to "
        "Keycloak. The exclusive run is in check mode, and reads the permissions of all users.",
    )
    for which, title in (("first", "first run"), ("second", "second run"), ("exclusive", "second run, exclusive")):
        seconds, ended, calls = runs[which]
        aim, asked = AIMS[which], requests_of(calls)
        part.figures.append(Figure(title, f"{seconds:.1f} s", f"{aim} s", seconds / aim, "<= 1.00x"))
        limited = which != "first"
        part.figures.append(
            Figure(
                f"{title}: requests",
                str(asked),
                str(REQUESTS_AIM) if limited else "",
                asked / REQUESTS_AIM if limited else None,
                "<= 1.00x" if limited else "",
            )
        )
        if which == "second":
            part.figures.append(Figure(f"{title}: changed tasks", str(ended.count("changed")), aim="0"))
        inside = sum(call["seconds"] for call in calls)
        part.details.append(f"{title}: in calls {inside:.1f} s, in Ansible itself {seconds - inside:.1f} s")
        part.details += [
            f"  {call['module']}: {call['seconds']:.1f} s, {call['requests']} requests"
            for call in calls
            if call.get("requests")
        ]
    return part
