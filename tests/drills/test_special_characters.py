"""Supplied passwords may contain any character: the whole stack is deployed and used with such passwords."""

import base64
import string
import subprocess
import urllib.parse

import pytest
import requests

from tests.lib import stack as stacks

# Characters with a meaning in shells, templates, URIs, expressions and configuration files, and all others.
TRICKS = "{{ 6*7 }}{% x %}{#c#}${HOME}$$(POD_IP)\\${x}\\\\%41%s%%+&amp;'\"`id`\"';--"
EVERY = "".join(character for character in string.printable if character.isprintable())
BEYOND = "é€ß漢😀"

# The source of each password: variable, file or environment.
SUPPLIED = {
    "postgres-superuser/password": "value",
    "mlflow-db-credentials/password": "file",
    "keycloak-db-credentials/password": "env",
    "minio-root/password": "file",
    "mlflow-s3-secret/AWS_SECRET_ACCESS_KEY": "value",
    "keycloak-admin/password": "env",
    "keycloak-users/demo-admin": "value",
    "keycloak-users/demo-user": "file",
    "mlflow-oidc-credentials/client-secret": "value",
}


def hidden(text):
    return stacks.Hidden(text)


def passwords():
    """Return a different password for each credential; the first and the last character are letters."""
    return {
        name: hidden(f"{chr(97 + number)}{TRICKS}{EVERY[number:]}{EVERY[:number]}{BEYOND}z")
        for number, name in enumerate(SUPPLIED)
    }


def supply(values, directory, environment):
    """Supply the passwords in files, environment variables, and a variables file, which is returned."""
    lines = ["platform_credentials:"]
    for secret in sorted({name.partition("/")[0] for name in values}):
        lines.append(f"  {secret}:")
        for name in (each for each in values if each.startswith(f"{secret}/")):
            lines.append(f"    {name.partition('/')[2]}:")
            variable = "DRILL_" + "".join(c if c.isalnum() else "_" for c in name).upper()
            if SUPPLIED[name] == "value":
                lines.append("      value: !unsafe '{}'".format(values[name].replace("'", "''")))
            elif SUPPLIED[name] == "file":
                (directory / variable).write_text(f"{values[name]}\n")
                lines.append(f"      file: {directory / variable}")
            else:
                environment.setenv(variable, values[name])
                lines.append(f"      env: {variable}")
    path = directory / "credentials.yml"
    path.write_text("\n".join(lines) + "\n")
    return path


def shapes(value):
    """Return the forms in which a value might appear in an output."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    encoded = base64.b64encode(value.encode()).decode()
    return [value, quoted, encoded, urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)]


@pytest.fixture(scope="module")
def special(drill, tmp_path_factory):
    """The stack, deployed on an empty cluster with these passwords."""
    values = passwords()
    with pytest.MonkeyPatch.context() as environment:
        path = supply(values, tmp_path_factory.mktemp("supplied"), environment)
        drill.clear()
        drill.site("site.yml with passwords of every character", "-e", f"@{path}")
        yield values, path


@pytest.fixture(autouse=True)
def leave(drill):
    """Let the next drill check the stack's state."""
    yield
    drill.whole = False


def test_each_password_has_every_character():
    for value in passwords().values():
        assert set(EVERY) <= set(value)
        assert not value.isascii()


def test_secrets_contain_the_supplied_values(drill, special):
    values, _unused = special
    found = {name.partition("/")[2]: (name, base64.b64decode(data)) for name, data in drill.credentials().items()}
    wrong = [name for name, value in values.items() if found.get(name, ("", b""))[1] != value.encode()]
    assert wrong == []


def test_users_and_clients_log_in(drill, special):
    """Both users log in, so Keycloak's database password and the client secret work; a client logs a run with
    an artifact, so MLflow's database and bucket credentials work."""
    values, _unused = special
    assert drill.stack.password(stacks.ADMIN) == values["keycloak-users/demo-admin"]
    drill.use("with passwords of every character")


def test_superuser_logs_in_with_the_password(drill, special):
    values, _unused = special
    certificate = drill.stack.secret("postgres", "postgres-superuser-tls")
    files = "".join(f"printf %s {quoted(certificate[f'tls.{end}'])} >/tmp/drill.{end}\n" for end in ("crt", "key"))
    for password, expected in ((values["postgres-superuser/password"], "1"), ("another", "")):
        script = f"""
            umask 077
            {files}
            export PGPASSWORD={quoted(password)} PGSSLCERT=/tmp/drill.crt PGSSLKEY=/tmp/drill.key
            psql -X -A -t -w -h localhost -U postgres -c 'SELECT 1' || true
        """
        assert drill.stack.execute("postgres", "sh", "-s", text=script).strip() == expected


def quoted(value):
    """Return a value quoted for a shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def test_keycloak_administrator_logs_in(drill, special):
    values, _unused = special
    url = f"{drill.stack.keycloak_url}/realms/master/protocol/openid-connect/token"
    for password, status in ((values["keycloak-admin/password"], 200), ("another", 401)):
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": password}
        assert requests.post(url, data=form, timeout=60).status_code == status


def test_minio_root_key_works(drill, special):
    values, _unused = special
    key = f"printf '%s\\n%s\\n' minio-root {quoted(values['minio-root/password'])}"
    script = (
        f"export SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt; {key}"
        " | mc --quiet --config-dir /tmp/drill alias set drill https://localhost:9000"
    )
    done = drill.stack.execute("minio", "sh", "-s", text=script)
    assert "successfully" in done


def test_env_file_can_be_sourced(drill, special):
    values, _unused = special
    drill.stack.environment  # noqa: B018  rewrites the file
    script = 'set -eu; . "$1"; printf "%s\\0%s" "$DEMO_ADMIN_PASSWORD" "$DEMO_USER_PASSWORD"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", drill.directory / "env"], check=True, capture_output=True, text=True
    )
    expected = [values["keycloak-users/demo-admin"], values["keycloak-users/demo-user"]]
    assert [hidden(each) for each in done.stdout.split("\0")] == expected


def test_second_run_changes_nothing_and_prints_no_password(drill, special):
    values, path = special
    done = drill.run("playbooks/site.yml", "-e", f"@{path}", "-vvv").expect_no_change("the second run")
    shown = [name for name, value in values.items() if any(shape in done.output for shape in shapes(value))]
    assert shown == [], f"values that {done.log} shows"


def test_values_are_kept_when_no_longer_supplied(drill, special):
    """Passwords need not be supplied again."""
    before = drill.credentials()
    drill.run("playbooks/site.yml").expect_no_change("site.yml without what was supplied")
    assert drill.credentials() == before


def test_all_pods_restart_with_these_passwords(drill, special):
    """A start on existing data takes other code paths than the first one."""
    for component, workload in (("postgres", "statefulset/postgres"), ("minio", "statefulset/minio")):
        drill.stack.kubectl("-n", component, "rollout", "restart", workload)
        drill.stack.kubectl("-n", component, "rollout", "status", workload, "--timeout=180s")
    for component, workload in (("keycloak", "statefulset/keycloak"), ("mlflow", "deployment/mlflow")):
        drill.stack.kubectl("-n", component, "rollout", "restart", workload)
        drill.stack.kubectl("-n", component, "rollout", "status", workload, "--timeout=300s")
    drill.use("after all pods were started again")
