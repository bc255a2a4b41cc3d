"""A stack of the former version converges with this one while clients work: what holds data restarts once, for TLS."""

import json

import pytest

from tests.lib import stack as stacks
from tests.lib.drill import KIND, SITE, differing
from tests.lib.former import former_version
from tests.lib.rows import fewer, rows
from tests.lib.traffic import Traffic, logged, new_run, summarize

# Before roles converged together.
FORMER = "ef2b1da0e40249cfa3c20917f2e5cb6a7c4311fa"
RATE = 2  # requests per second
MOST_SECONDS = 900
HOLD_DATA = ("postgres", "minio")


@pytest.fixture
def former(drill):
    """The former version, and the cluster with a stack of it."""
    with former_version(FORMER, drill.directory) as found:
        drill.clear()
        # The cluster is there: all images but its node's.
        targets = json.dumps({"images_targets": sorted(json.loads((drill.directory / "images.json").read_text()))})
        drill.run(KIND, "-e", targets, former=found).expect_success("the images of the former version")
        deployed = drill.run(SITE, former=found).expect_success("site.yml of the former version")
        drill.say(f"  site.yml of the former version: {deployed.seconds:.0f} s, changed={deployed.count('changed')}")
        yield found


def pods(stack):
    """Return the restarts of each container in the pods that hold data, by component, pod's UID and container."""
    return {
        (component, pod.metadata.uid, status.name): status.restart_count
        for component in HOLD_DATA
        for pod in stack.pods(component)
        for status in pod.status.container_statuses
    }


def contents(stack):
    """Return how many contents the template of each StatefulSet that holds data has had."""
    return {
        component: len(stack.apps.list_namespaced_controller_revision(stacks.NAMESPACES[component]).items)
        for component in HOLD_DATA
    }


def image(stack):
    deployment = stack.apps.read_namespaced_deployment("mlflow", stacks.NAMESPACES["mlflow"])
    return deployment.spec.template.spec.containers[0].image


@pytest.mark.usefixtures("former")
def test_upgrade_under_traffic(drill):
    """PostgreSQL and MinIO restart once, for certificates; no row and no acknowledged write is lost."""
    stack = drill.stack
    run = drill.use("of the former version")
    token = stack.environment["MLFLOW_TRACKING_PASSWORD"]
    credentials, traffic_run = drill.credentials(), new_run(stack, (stacks.ADMIN, token))
    rows_before, pods_before, image_before = rows(stack), pods(stack), image(stack)
    contents_before = contents(stack)
    assert {component for component, *_unused in pods_before} == set(HOLD_DATA)

    drill.run(KIND).expect_success("the images of this version")
    traffic = Traffic(stack.mlflow_url, (stacks.ADMIN, token), traffic_run, RATE)
    _done, answers = traffic.during(lambda: drill.site("site.yml of this version"), MOST_SECONDS)
    lost = summarize(drill, "upgrade", answers)[1]
    acknowledged = {answer.key for answer in answers if answer.status == 200}
    rows_after = rows(stack)
    drill.say(f"  {sum(rows_before.values())} rows before and {sum(rows_after.values())} after")
    drill.say(f"  MLflow's image was {image_before}, and is {image(stack)}")

    assert {
        component: count - contents_before[component] for component, count in contents(stack).items()
    } == dict.fromkeys(HOLD_DATA, 1), "the template of PostgreSQL or MinIO changed more than once"
    assert set(pods(stack).values()) == {0}, "a container of PostgreSQL or MinIO was restarted"
    assert not pods(stack).keys() & pods_before.keys(), "PostgreSQL or MinIO is without a certificate"
    pods_after = pods(stack)
    assert fewer(rows_before, rows_after) == {}, "tables with fewer rows"
    assert acknowledged, "no write was acknowledged"
    assert acknowledged - logged(stack, traffic_run) == set(), "acknowledged writes that are lost"
    assert lost == [], "requests that failed for good"
    assert differing(credentials, drill.credentials()) == [], "site.yml gave these other values"
    drill.look(run, token)
    drill.run(SITE).expect_no_change("the second run of this version")
    assert pods(stack) == pods_after, "the second run restarted PostgreSQL or MinIO"
    drill.use("after the upgrade")


def test_an_upgrade_without_backups_has_to_be_asked_for(deployed):
    """The drills' stack has none."""
    refused = deployed.run("playbooks/upgrade.yml")
    assert refused.code != 0
    assert "platform_upgrade_without_backup=true" in " ".join(refused.output.split())
    asked = deployed.run("playbooks/upgrade.yml", "-e", "platform_upgrade_without_backup=true")
    asked.expect_success("upgrade.yml where nothing is to be upgraded")
