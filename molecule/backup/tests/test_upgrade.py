"""From former versions of all components to those of this collection while clients write, and back when it fails.

The tests build on one another. They begin with a stack of their own, whose backups have a prefix of their own.
"""

import contextlib
import re
import time

import pytest
import requests
import yaml

from tests.lib import DIRECTORY, INVENTORY, REPOSITORY, derived
from tests.lib import stack as stacks
from tests.lib.drill import SITE, Drill
from tests.lib.keycloak_admin import Keycloak
from tests.lib.rows import fewer, rows
from tests.lib.traffic import Traffic, logged, new_run, summarize

FORMER = "3.16.1"
FORMERS = {"postgres": "postgres_15", "keycloak": "keycloak_26_3", "sealed_secrets": "sealed_secrets_0_27"}
UPGRADE = "playbooks/upgrade.yml"
RESTORE = "playbooks/restore.yml"
RATE = 2  # requests per second
MOST_SECONDS = 1500
# What else users have.
MAKE = """
    import mlflow
    import numpy
    from mlflow.entities import AssessmentSource, AssessmentSourceType
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = mlflow.set_experiment("of all kinds").experiment_id
    with mlflow.start_run() as run:
        mlflow.log_params({"depth": 3, "kind": "tree"})
        mlflow.log_metrics({"loss": 0.5, "gain": 2.0}, step=1)
        mlflow.log_text("weights", "model/weights.txt")
        mlflow.log_input(mlflow.data.from_numpy(numpy.array([1.0, 2.0])), context="training")
    client.create_registered_model("churn", tags={"team": "ml"})
    client.create_model_version("churn", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("churn", "best", 1)
    mlflow.genai.register_prompt("greeting", "Hello {{name}}")
    with mlflow.start_span("outer", attributes={"tokens": 12}) as span:
        span.set_inputs({"question": "why"})
        with mlflow.start_span("inner"):
            pass
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(
        trace_id=span.trace_id, name="good", value=True,
        source=AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="tests"),
    )
    print(run.info.run_id, span.trace_id)
"""
SEE = """
    import sys
    import mlflow
    from mlflow.tracking import MlflowClient

    run, trace = sys.argv[1:]
    found = mlflow.get_run(run)
    assert found.data.params == {"depth": "3", "kind": "tree"}, found.data.params
    assert found.data.metrics == {"loss": 0.5, "gain": 2.0}, found.data.metrics
    assert mlflow.artifacts.load_text(found.info.artifact_uri + "/model/weights.txt") == "weights"
    version = MlflowClient().get_model_version_by_alias("churn", "best")
    assert version.run_id == run
    assert mlflow.genai.load_prompt("prompts:/greeting/1").template == "Hello {{name}}"
    seen = mlflow.get_trace(trace)
    assert [span.name for span in seen.data.spans] == ["outer", "inner"], seen.data.spans
    assert [each.name for each in seen.info.assessments] == ["good"], seen.info.assessments
"""


class Made:
    """What the tests made, and have to find again."""

    token = run = ""
    kinds = ()
    rows: dict = {}  # noqa: RUF012  (of one session)
    former: dict = {}  # noqa: RUF012


class Chosen:
    """The images in the inventory."""

    images: dict = {}  # noqa: RUF012  (of one session)

    def __init__(self, directory):
        self.directory = directory
        self._prefix = f"upgrade-{time.time_ns()}"
        self._variables = directory / "group_vars" / "mlflow" / "image.yml"
        self._variables.parent.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.yml").write_text("mlflow: {}\n")

    def use(self, **images):
        """Write them down, by component; others stay."""
        self.images |= {f"{component}_image": image for component, image in images.items()}
        variables = {"mlflow_untested_versions": True, "backup_s3_prefix": self._prefix}
        self._variables.write_text(yaml.safe_dump(variables | self.images))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """The choice of the images."""
    return Chosen(tmp_path_factory.mktemp("inventory"))


@pytest.fixture(scope="module")
def upgrading(say, chosen):
    """The tests' cluster, with this choice."""
    further = (REPOSITORY / "molecule" / "backup" / "inventory", chosen.directory)
    return Drill(DIRECTORY, INVENTORY, say, *further)


def version(stack):
    """The version of MLflow that serves."""
    auth = (stacks.ADMIN, stack.environment["MLFLOW_TRACKING_PASSWORD"])
    return requests.get(f"{stack.mlflow_url}/version", auth=auth, timeout=30).text


def major(stack):
    """The major version of PostgreSQL that serves."""
    return int(stack.sql("postgres", "SHOW server_version_num")[0][0]) // 10000


def sentences(done):
    """What a run said, without line breaks."""
    return re.sub(r"\s+", " ", done.output)


def written(drill, work):
    """Write to a run while `work` is done; return its result, the numbers of lost writes, and the answers."""
    stack = drill.stack
    traffic = Traffic(stack.mlflow_url, (stacks.ADMIN, Made.token), Made.run, RATE)
    done, answers = traffic.during(work, MOST_SECONDS)
    _failed, given_up = summarize(drill, "writes", answers)
    acknowledged = {answer.key for answer in answers if answer.status == 200}
    assert acknowledged, "no write was acknowledged"
    assert acknowledged - logged(stack, Made.run) == set(), "acknowledged writes that are lost"
    return done, given_up, [each for answer in answers for each in answer.failed]


def seen(drill, moved=()):
    """All that was made before is there; rows of these tables are columns of others since."""
    drill.stack.client(SEE, stacks.ADMIN, Made.token, *Made.kinds)
    assert fewer(Made.rows, rows(drill.stack)).keys() <= set(moved)


# --- the tests --------------------------------------------------------------------------------------------------------


def test_a_stack_of_the_former_version_is_used(upgrading, chosen, tmp_path):
    upgrading.clear()
    Made.former = {component: derived.current(upgrading, former) for component, former in FORMERS.items()}
    Made.former["mlflow"] = derived.of_version(upgrading, FORMER, tmp_path)
    chosen.use(**Made.former)
    upgrading.site(f"site.yml with MLflow {FORMER}, PostgreSQL 15, and other former versions")
    upgrading.use("of the former version")
    stack = upgrading.stack
    assert (version(stack), major(stack)) == (FORMER, 15)
    Made.token = stack.environment["MLFLOW_TRACKING_PASSWORD"]
    Made.kinds = stack.client(MAKE, stacks.ADMIN, Made.token).stdout.split()[-2:]
    Made.run = new_run(stack, (stacks.ADMIN, Made.token))
    Made.rows = rows(stack)
    seen(upgrading)


def test_site_does_not_touch_another_major_version_of_postgresql(upgrading, chosen):
    chosen.use(postgres=derived.current(upgrading, "postgres"))
    done = upgrading.run(SITE)
    assert done.code != 0
    assert "PostgreSQL 15 is deployed: run playbooks/upgrade.yml" in sentences(done)
    assert done.changes == []
    checked = upgrading.run(UPGRADE, "--check").expect_success("upgrade.yml --check")
    assert "PostgreSQL 15 -> 17: it is away while" in sentences(checked)
    assert major(upgrading.stack) == 15


def test_postgresql_that_cannot_be_loaded_goes_back(upgrading, chosen, tmp_path):
    chosen.use(postgres=derived.that_loads_nothing(upgrading, tmp_path))
    done, _given_up, failed = written(upgrading, lambda: upgrading.run(UPGRADE))
    assert done.code != 0
    assert "and on the databases of PostgreSQL 15" in sentences(done), done.log
    assert "429" in failed, "no call was held"
    assert (version(upgrading.stack), major(upgrading.stack)) == (FORMER, 15)
    seen(upgrading)


def test_both_at_once_that_are_interrupted_and_whose_server_does_not_start_go_back(upgrading, chosen, tmp_path):
    former = chosen.images["mlflow_image"]
    chosen.use(postgres=derived.current(upgrading, "postgres"), mlflow=derived.that_does_not_start(upgrading, tmp_path))

    def interrupted_while_dumping():
        killed = upgrading.run(UPGRADE, until=lambda *_unused: dumping(upgrading.stack))
        assert killed.killed
        upgrading.say(f"  killed in '{killed.task}'")
        return upgrading.run(UPGRADE, "-e", "platform_timeout=120")

    done, _given_up, _failed = written(upgrading, interrupted_while_dumping)
    assert done.code != 0
    assert "No call was served since PostgreSQL 17 has the databases" in sentences(done), done.log
    assert "and on the databases of PostgreSQL 15" in sentences(done), done.log
    assert (version(upgrading.stack), major(upgrading.stack)) == (FORMER, 15)
    seen(upgrading)
    upgrading.use("on PostgreSQL 15 again")
    chosen.use(mlflow=former)


def test_postgresql_is_upgraded_and_nothing_is_lost(upgrading, chosen):
    chosen.use(postgres=derived.current(upgrading, "postgres"))
    done, given_up, failed = written(upgrading, lambda: upgrading.run(UPGRADE))
    done.expect_success("the upgrade of PostgreSQL")
    upgrading.say(f"  upgrade.yml: {done.seconds:.0f} s")
    assert given_up == [], "writes that a stock client could not bring through"
    assert "429" in failed, "no call was held"
    assert (version(upgrading.stack), major(upgrading.stack)) == (FORMER, 17)
    seen(upgrading)
    upgrading.use("on PostgreSQL 17")
    upgrading.run(SITE).expect_no_change("site.yml after the upgrade")


def test_keycloak_and_sealed_secrets_are_upgraded(upgrading, chosen):
    stack = upgrading.stack
    keycloak = Keycloak(stack, "upgrade")
    assert keycloak.version().startswith("26.3.")
    chosen.use(**{each: derived.current(upgrading, each) for each in ("keycloak", "sealed_secrets")})
    done, given_up, failed = written(upgrading, lambda: upgrading.run(UPGRADE))
    done.expect_success("the upgrade of Keycloak and Sealed Secrets")
    upgrading.say(f"  upgrade.yml: {done.seconds:.0f} s")
    # Tokens of programs need neither.
    assert (given_up, failed) == ([], [])
    assert f":{keycloak.version()}-" in derived.current(upgrading, "keycloak")
    seen(upgrading)
    upgrading.use("with the new Keycloak")
    # What was sealed before is unsealed.
    value = stack.secret("mlflow", "mlflow-admin")
    stack.kubectl("-n", "mlflow", "delete", "secret", "mlflow-admin")
    found = ["get", "secret", "mlflow-admin", "--ignore-not-found", "--output", "name"]
    stacks.wait_until(lambda: stack.kubectl("-n", "mlflow", *found), 120, "the controller to unseal it again")
    assert stack.secret("mlflow", "mlflow-admin") == value


def test_a_check_says_what_it_would_do(upgrading, chosen):
    chosen.use(mlflow=derived.current(upgrading))
    done = upgrading.run(UPGRADE, "--check").expect_success("upgrade.yml --check")
    assert re.search(rf"mlflow: \S+:{re.escape(FORMER)} -> {re.escape(derived.current(upgrading))}", done.output)
    assert version(upgrading.stack) == FORMER


def test_one_without_a_backup_is_refused(upgrading):
    components = '{"platform_components": ["sealed_secrets", "postgres", "minio", "keycloak", "mlflow"]}'
    done = upgrading.run(UPGRADE, "-e", components)
    assert done.code != 0
    assert "platform_components is without backup" in done.output
    assert version(upgrading.stack) == FORMER


def test_one_whose_server_does_not_start_goes_back(upgrading, chosen, tmp_path):
    chosen.use(mlflow=derived.that_does_not_start(upgrading, tmp_path))
    done, _given_up, _failed = written(upgrading, lambda: upgrading.run(UPGRADE, "-e", "platform_timeout=120"))
    assert done.code != 0
    back = rf"The upgrade failed, and the stack is back on \S+:{re.escape(FORMER)}, with its databases as of"
    assert re.search(back, sentences(done)), done.log
    assert version(upgrading.stack) == FORMER
    seen(upgrading)
    upgrading.use("after going back")


def dumping(stack):
    """Whether the Job that takes the databases to another major version has begun."""
    return "postgres-upgrade" in stack.kubectl("-n", "postgres", "get", "pods", "-o", "name", check=False)


def interrupted(drill):
    """Kill the upgrade and its migration while calls are held; run it again, to its end."""
    stack = drill.stack

    def held(_started, _since):
        # A node may still lead a port that was used before to a pod that is gone.
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{stack.mlflow_url}/api/2.0/mlflow/users/current", timeout=30).status_code == 429
        return False

    killed = drill.run(UPGRADE, until=held)
    assert killed.killed
    drill.say(f"  killed in '{killed.task}'")
    pods = "app.kubernetes.io/name=mlflow-migrate"
    stack.kubectl("-n", "mlflow", "delete", "pods", "-l", pods, "--grace-period=0", "--force")
    return drill.run(UPGRADE)


def test_one_that_is_killed_and_run_again_loses_nothing(upgrading, chosen):
    chosen.use(mlflow=derived.current(upgrading))
    done, given_up, failed = written(upgrading, lambda: interrupted(upgrading))
    done.expect_success("the upgrade")
    assert f":{FORMER} -> " in done.output, "it has forgotten where it began"
    upgrading.say(f"  upgrade.yml: {done.seconds:.0f} s")
    assert given_up == [], "writes that a stock client could not bring through"
    assert "429" in failed, "no call was held"
    assert version(upgrading.stack) != FORMER
    # MLflow 3.17 has a column for the names of traces.
    seen(upgrading, {"mlflow.public.trace_tags"})
    upgrading.use("after the upgrade")
    upgrading.run(SITE).expect_no_change("site.yml after the upgrade")


def test_a_restore_leads_back_to_the_former_versions(upgrading, chosen):
    first = min(upgrading.backups())
    chosen.use(**Made.former)
    restored = upgrading.run(RESTORE, "-e", f"platform_restore={first}", "-e", "platform_confirm=kind")
    restored.expect_success(f"the restore of {first}")
    upgrading.say(f"  back on the former versions in {restored.seconds:.0f} s")
    assert (version(upgrading.stack), major(upgrading.stack)) == (FORMER, 15)
    assert Keycloak(upgrading.stack, "upgrade").version().startswith("26.3.")
    seen(upgrading)
    upgrading.use("on the former versions again")
    upgrading.run(SITE).expect_no_change("site.yml after the restore")
    # On the timeline of these databases.
    upgrading.run("playbooks/backup.yml").expect_success("a backup of the former versions")
