"""Rotations while clients work: no request fails for good, nobody has to log in again, and former credentials end."""

import collections
import threading
import time

import pytest
import requests

from tests.lib import stack as stacks
from tests.lib.drill import differing
from tests.lib.keycloak_admin import Keycloak
from tests.lib.traffic import RETRIES, Traffic, logged, new_run, summarize

ROTATE = "playbooks/rotate.yml"
RATE = 5  # requests per second
MOST_SECONDS = 900
SEARCH = "/ajax-api/2.0/mlflow/experiments/search?max_results=1"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
# What is rotated together, and what of each Secret gets another value.
DATABASES = {
    "mlflow/mlflow-db-credentials": {"username", "password"},
    "keycloak/keycloak-db-credentials": {"username", "password"},
}
S3 = {"mlflow/mlflow-s3-secret": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}
SESSIONS = {"mlflow/mlflow-session-keys": {"secret-key", "session-token-encryption-key"}}
ENCRYPTION = {"mlflow/mlflow-encryption-keys": {"gateway-passphrase", "webhook-key"}}
CLIENT = {"mlflow/mlflow-oidc-credentials": {"client-secret"}}
ADMINS = {"mlflow/mlflow-admin": {"password"}, "keycloak/keycloak-admin": {"password"}}
ROOTS = {"postgres/postgres-superuser": {"password"}, "minio/minio-root": {"password"}}
CERTIFICATES = {
    f"{place}-server-tls": {"tls.crt", "tls.key"}
    for place in ("postgres/postgres", "minio/minio", "keycloak/keycloak", "mlflow/mlflow")
}
CA = {"mlflow/mlflow-ca": {"tls.crt", "tls.key"}}
ALL = DATABASES | S3 | SESSIONS | ENCRYPTION | CLIENT | ADMINS | ROOTS | CERTIFICATES | CA


def names(places):
    """Return the value of `platform_rotate` for Secrets; certificates have one word."""
    words = (place.partition("/")[2] for place in places)
    return ",".join(dict.fromkeys("certificates" if word.endswith("-server-tls") else word for word in words))


class Repeated:
    """Calls a function at a pace, in a thread of its own; a `with` statement begins and ends it.

    Args:
        act: returns what a call gave, which is counted, or raises.
        pause: seconds between two calls.
    """

    def __init__(self, act, pause):
        self._act, self._pause = act, pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self.given = collections.Counter()

    def _go(self):
        while not self._ended.wait(self._pause):
            try:
                self.given[self._act()] += 1
            except Exception as error:  # is counted
                self.given[type(error).__name__] += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_unused):
        self._ended.set()
        self._thread.join()


def patient(session):
    """Let a session try again as MLflow's client does."""
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=RETRIES))
    return session


class Load:
    """Clients of a stack: programs that log metrics and artifacts, a browser that is logged in, and further logins."""

    def __init__(self, drill):
        stack = self.stack = drill.stack
        self._drill = drill
        token = stack.environment["MLFLOW_TRACKING_PASSWORD"]
        self.credentials = (stacks.ADMIN, token)
        self.run = new_run(stack, self.credentials)
        browser, program = patient(stack.login(stacks.USER)), patient(requests.Session())
        program.auth = self.credentials
        url = stack.mlflow_url
        number = iter(range(1_000_000))

        def browse():
            return browser.get(url + SEARCH, allow_redirects=False, timeout=60).status_code

        def exchange():
            content = f"content {next(number)}".encode()
            place = f"{url}{ARTIFACTS}/rotation/{self.run}/file"
            sent = program.put(place, data=content, timeout=60)
            back = program.get(place, timeout=60)
            return 200 if (sent.status_code, back.content) == (200, content) else (sent.status_code, back.status_code)

        def log_in():
            return 200 if stack.login(stacks.USER).cookies else "no cookie"

        self.session, self.artifacts, self.logins = Repeated(browse, 0.5), Repeated(exchange, 1), Repeated(log_in, 5)

    def during(self, what, act):
        """Return what `act` returns, and print the table's line of it."""
        traffic = Traffic(self.stack.mlflow_url, self.credentials, self.run, RATE)
        with self.session, self.artifacts, self.logins:
            done, answers = traffic.during(act, MOST_SECONDS)
        lost = summarize(self._drill, what, answers)[1]
        for name, each in (("session", self.session), ("artifacts", self.artifacts), ("logins", self.logins)):
            self._drill.say(f"  {what}: {name} {dict(each.given)}")
        assert lost == [], "requests that failed for good"
        assert logged(self.stack, self.run) == {answer.key for answer in answers}
        assert set(self.session.given) == {200}, "the browser had to log in again"
        assert set(self.artifacts.given) == {200}, "artifacts that failed"
        assert self.logins.given[200] > 0
        return done


def values(stack, places):
    """Return the values of Secrets, by their places."""
    return {place: stack.secret(*place.split("/")) for place in places}


def ended(stack, before):
    """Assert that former credentials are refused, and the present ones are not."""
    now = values(stack, before)
    for place, keys in ALL.items():
        for key in keys if place in before else ():
            assert now[place][key] != before[place][key], f"{key} of {place} is the former one"
    for moment, given in (("former", before), ("present", now)):
        for place, found in given.items():
            ask = ASK.get(place)
            if ask:
                assert ask(stack, found) is (moment == "present"), f"the {moment} credentials of {place}"


def _database(stack, found, name="mlflow"):
    script = f"""
        export PGPASSWORD='{found["password"]}' PGSSLMODE=require
        psql -X -h localhost -U {found["username"]} -d {name} -c 'SELECT 1' >/dev/null 2>&1 && echo in || echo out
    """
    return stack.execute("postgres", "sh", "-s", text=script).strip() == "in"


def _bucket(stack, found):
    script = f"""
        export MC_HOST_x=https://{found["AWS_ACCESS_KEY_ID"]}:{found["AWS_SECRET_ACCESS_KEY"]}@localhost:9000
        export MC_CONFIG_DIR=/tmp/x SSL_CERT_FILE=/etc/minio-certs/CAs/ca.crt
        mc ls x/mlflow >/dev/null 2>&1 && echo in || echo out
    """
    return stack.execute("minio", "sh", "-s", text=script).strip() == "in"


def _client(stack, found):
    url = f"{Keycloak(stack, 'rotation').issuer}/protocol/openid-connect/token/introspect"
    asked = requests.post(url, auth=("mlflow", found["client-secret"]), data={"token": "x"}, timeout=60)
    assert asked.status_code in (200, 401)
    return asked.status_code == 200


def _admin(stack, found):
    asked = requests.get(stack.mlflow_url + SEARCH, auth=(found["username"], found["password"]), timeout=60)
    assert asked.status_code in (200, 401)
    return asked.status_code == 200


def _keycloak_admin(stack, found):
    form = {"grant_type": "password", "client_id": "admin-cli", **{key: found[key] for key in ("username", "password")}}
    url = f"{stack.keycloak_url}/realms/master/protocol/openid-connect/token"
    return requests.post(url, data=form, timeout=60).status_code == 200


ASK = {
    "mlflow/mlflow-db-credentials": _database,
    "keycloak/keycloak-db-credentials": lambda stack, found: _database(stack, found, "keycloak"),
    "mlflow/mlflow-s3-secret": _bucket,
    "mlflow/mlflow-oidc-credentials": _client,
    "mlflow/mlflow-admin": _admin,
    "keycloak/keycloak-admin": _keycloak_admin,
}

OPENED = """
import os
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
store, registry = SqlAlchemyStore(uri, "/tmp"), Registry(uri)
for each in store.list_secret_infos():
    print(each.secret_name, store._get_decrypted_secret(each.secret_id))
for each in registry.list_webhooks():
    print(each.name, each.secret)
"""


@pytest.fixture
def kept(deployed):
    """What MLflow keeps encrypted, made before; a function that returns it as MLflow decrypts it."""
    stack = deployed.stack
    name, token = f"rotation-{time.time_ns()}", stack.environment["MLFLOW_TRACKING_PASSWORD"]

    def ask(path, **content):
        answer = requests.post(f"{stack.mlflow_url}/api/{path}", json=content, auth=(stacks.ADMIN, token), timeout=60)
        assert answer.status_code == 200, answer.text

    ask("3.0/mlflow/gateway/secrets/create", secret_name=name, secret_value={"api_key": "sk-kept"}, provider="openai")
    events = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
    # An address, since MLflow resolves names. It is never called.
    ask("2.0/mlflow/webhooks", name=name, url="https://1.1.1.1/x", events=events, secret="s3cret")

    def opened():
        found = stack.execute("mlflow", "python", "-", text=OPENED)
        return [line.removeprefix(name).strip() for line in found.splitlines() if line.startswith(name)]

    assert opened() == ["{'api_key': 'sk-kept'}", "s3cret"]
    return opened


@pytest.mark.parametrize(
    "rotated",
    [DATABASES, S3, SESSIONS, ENCRYPTION, CLIENT, ADMINS, ROOTS, CERTIFICATES | CA],
    ids=["databases", "s3", "sessions", "encryption", "client", "admins", "roots", "certificates"],
)
def test_rotation_under_load(deployed, kept, rotated):
    stack, before = deployed.stack, values(deployed.stack, rotated)
    load = Load(deployed)
    done = load.during(names(rotated), lambda: deployed.run(ROTATE, "-e", f"platform_rotate={names(rotated)}"))
    done.expect_success("rotate.yml")
    deployed.say(f"  {names(rotated)}: {done.seconds:.0f} s")
    ended(stack, before)
    assert kept() == ["{'api_key': 'sk-kept'}", "s3cret"]
    for value in (value for place in ALL if place in before for value in values(stack, [place])[place].values()):
        if len(value) > 20:
            assert value not in done.output, "a value was printed"
    deployed.run("playbooks/site.yml").expect_no_change("site.yml after a rotation")
    deployed.use("after the rotation")


def test_rotation_of_all_that_is_killed_goes_on(deployed, kept):
    """Killed while pods are replaced; the second run finishes it, and rotates nothing twice."""
    stack, before = deployed.stack, values(deployed.stack, ALL)
    words = ("-e", "platform_rotate=all")
    place = "mlflow/mlflow-db-credentials"

    def interrupted():
        first = deployed.run(ROTATE, *words, until=lambda *_: values(stack, [place])[place] != before[place])
        assert first.killed
        other = deployed.run(ROTATE, "-e", "platform_rotate=minio-root")
        assert "was interrupted: finish it by -e platform_rotate=" in " ".join(other.output.split())
        middle = values(stack, ALL)
        second = deployed.run(ROTATE, *words).expect_success("rotate.yml again")
        assert "was interrupted, and goes on" in second.output
        return middle, second

    middle, second = Load(deployed).during("all, killed", interrupted)
    deployed.say(f"  all: {second.seconds:.0f} s")
    now = values(stack, ALL)
    # The first run was killed while it replaced them.
    twice = [
        f"{key} of {place}"
        for place, keys in ALL.items()
        for key in keys
        if before[place][key] != middle[place][key] != now[place][key]
    ]
    assert twice == [], "rotated twice"
    ended(stack, before)
    assert kept() == ["{'api_key': 'sk-kept'}", "s3cret"]
    assert not stack.kubectl("-n", "mlflow", "get", "configmap", "mlflow-rotation", "--ignore-not-found").strip()
    deployed.run("playbooks/site.yml").expect_no_change("site.yml after a rotation")


def test_check_mode_names_what_would_be_rotated_and_changes_nothing(deployed):
    before = deployed.credentials()
    done = deployed.run(ROTATE, "-e", "platform_rotate=all", "--check").expect_success("rotate.yml --check")
    assert "Would be rotated: " in done.output
    assert differing(before, deployed.credentials()) == []
    deployed.run("playbooks/site.yml").expect_no_change("site.yml after a check")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "platform_rotate is empty: give -e platform_rotate=all, or some of "),
        (["-e", "platform_rotate=mlflow-db"], "platform_rotate has mlflow-db: give all, or some of "),
        (
            [
                "-e",
                "platform_rotate=minio-root",
                "-e",
                '{"platform_credentials": {"minio-root": {"password": {"env": "HOME"}}}}',
            ],
            "platform_rotate has minio-root: give all, or some of ",
        ),
    ],
)
def test_wrong_input_changes_nothing(deployed, words, sentence):
    before = deployed.credentials()
    done = deployed.run(ROTATE, *words)
    assert done.code != 0
    assert sentence in " ".join(done.output.split())
    assert differing(before, deployed.credentials()) == []


def test_sealing_keys_are_rotated_and_files_sealed_again(deployed):
    stack = deployed.stack

    def keys():
        label = "sealedsecrets.bitnami.com/sealed-secrets-key"
        return stack.kubectl("-n", "sealed-secrets", "get", "secrets", "-l", label, "-o", "name").split()

    def files():
        return {path: path.read_text() for path in (deployed.directory / "sealed").rglob("*.yaml")}

    before, sealed, credentials = keys(), files(), deployed.credentials()
    done = deployed.run(ROTATE, "-e", "platform_rotate=sealing-keys").expect_success("rotate.yml")
    deployed.say(f"  sealing keys: {done.seconds:.0f} s, {len(before)} before, {len(keys())} after")
    assert len(keys()) == len(before) + 1
    assert differing(credentials, deployed.credentials()) == []
    assert files().keys() == sealed.keys()
    assert not any(text == sealed[path] for path, text in files().items())
    deployed.run("playbooks/site.yml").expect_no_change("site.yml after a rotation")
