"""prune.yml lists what no stack owns any more, and deletes what is confirmed."""

import json
import re

import pytest

from tests.lib.drill import PRUNE

CONFIRMED = ("-e", "platform_confirm=kind")
# What a team has for a while.
TEAM = {
    "postgres_extra_roles": [{"name": "team", "databases": ["team"], "namespaces": ["mlflow-team"]}],
    "minio_extra_buckets": [{"name": "team", "versioning": True, "namespaces": ["mlflow-team"]}],
}
LEFT_OF_TEAM = {
    "access-keys/disabled",
    "bucket/team",
    "database/team",
    "role/team",
    *(
        f"sealedsecret/{namespace}/team-{kind}"
        for kind, home in (("db-credentials", "postgres"), ("s3-secret", "minio"))
        for namespace in (home, "mlflow-team")
    ),
}
# Another stack, of which the cluster has a part only.
OTHER = {
    "platform_components": ["minio"],
    "platform_secrets_backend": "kubernetes",
    "mlflow_namespace": "other-ca",
    "minio_namespace": "other-minio",
    "minio_buckets": [{"name": "other"}],
}


def variables(values):
    """Return arguments that set variables."""
    return "-e", json.dumps(values)


def listed(run):
    """Return what a run lists, with what it holds."""
    shown = run.output.rpartition("TASK [mlops.mlflow.platform : Show what is left]")[2].partition("\nTASK [")[0]
    owned = shown.partition("These stay:")[0]
    assert "No stack owns these any more:" in owned or "Nothing is left that no stack owns." in owned, run.output
    return dict(re.findall(r"^ +- ([^,\n]+)(?:, )?(.*)$", owned, re.M))


def databases(stack):
    """Return the names of databases and of roles that were made for somebody."""
    rows = stack.sql("postgres", "SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles")
    return {row[0] for row in rows} & {"team", "mlflow", "mlflow_auth", "keycloak"}


@pytest.fixture(scope="module")
def former(drill):
    """A stack with what it has left of a team."""
    drill.site("site.yml with a team", *variables(TEAM))
    drill.stack.kubectl("-n", "postgres", "exec", "postgres-0", "--", "mkdir", "/var/lib/postgresql/data/pgdata.before")
    assert "team" in databases(drill.stack)
    drill.site("site.yml without the team")
    return drill


def test_a_database_a_bucket_and_their_secrets(former):
    stack = former.stack
    before = stack.everything()
    for words in ((), ("--check", *CONFIRMED), ("-e", "platform_confirm=another")):
        done = former.run(PRUNE, *words).expect_success("prune.yml that lists")
        assert set(listed(done)) == LEFT_OF_TEAM | {"directory/pgdata.before"}, words
        assert re.fullmatch(r"[0-9]+ kB", listed(done)["database/team"])
    refused = former.run(PRUNE, *CONFIRMED, *variables({"platform_prune": ["database/mlflow"]}))
    assert refused.code != 0
    assert "platform_prune has database/mlflow: names as they are listed" in refused.output
    assert stack.everything() == before
    assert databases(stack) == {"team", "mlflow", "mlflow_auth", "keycloak"}

    some = ["bucket/team", "directory/pgdata.before"]
    former.run(PRUNE, *CONFIRMED, *variables({"platform_prune": some})).expect_success("prune.yml of two")
    # A key has the policy still.
    assert set(listed(former.run(PRUNE))) == (LEFT_OF_TEAM - {"bucket/team"}) | {"policy/bucket-team"}
    former.run(PRUNE, *CONFIRMED).expect_success("prune.yml of all")
    former.run(PRUNE, *CONFIRMED).expect_no_change("prune.yml once more")
    assert databases(stack) == {"mlflow", "mlflow_auth", "keycloak"}
    gone = before - stack.everything()
    assert {each.split()[0] for each in gone} == {"SealedSecret", "Secret"}
    assert all(each.split()[2].startswith("team-") for each in gone), gone
    assert not list(former.directory.glob("sealed/**/team-*.yaml"))
    former.site("site.yml after prune.yml")
    former.use("after prune.yml")


def test_a_namespace_that_was_renamed(deployed):
    renamed = variables({"minio_namespace": "minio-2"})
    refused = deployed.run(PRUNE, *renamed)
    assert refused.code != 0
    assert "run site.yml first, or look whether this is the right inventory" in " ".join(refused.output.split())
    deployed.site("site.yml with another namespace of MinIO", *renamed)
    # The inventory without the change is not what is deployed.
    refused = deployed.run(PRUNE, *CONFIRMED)
    assert refused.code != 0
    assert "run site.yml first, or look whether this is the right inventory" in " ".join(refused.output.split())

    left = listed(deployed.run(PRUNE, *renamed).expect_success("prune.yml that lists"))
    assert re.fullmatch(
        r"volume data-minio-0 of [0-9.]+ GiB, [0-9]+ Secrets, [0-9]+ pods that run", left.pop("namespace/minio")
    )
    assert left == {}
    deployed.run(PRUNE, *renamed, *CONFIRMED).expect_success("prune.yml that deletes")
    there = {each.metadata.name for each in deployed.stack.core.list_namespace().items}
    assert "minio" not in there
    assert {"minio-2", "mlflow", "postgres", "keycloak", "sealed-secrets"} <= there

    deployed.site("site.yml with the former name")
    assert list(listed(deployed.run(PRUNE, *CONFIRMED))) == ["namespace/minio-2"]
    assert "minio-2" not in {each.metadata.name for each in deployed.stack.core.list_namespace().items}
    deployed.use("after the namespaces were pruned")


def test_nothing_that_is_declared_is_listed(deployed):
    done = deployed.run(PRUNE, *variables(TEAM | {"platform_confirm": "kind"}))
    # The roles are declared again, and not there: nothing of them may go.
    done.expect_no_change("prune.yml of a stack that is as declared")
    assert listed(done) == {}, done.output


def test_what_another_stack_has_is_not_listed(deployed):
    stack = deployed.stack
    try:
        deployed.run("playbooks/site.yml", *variables(OTHER)).expect_success("site.yml of another stack")
        done = deployed.run(PRUNE, *CONFIRMED).expect_no_change("prune.yml beside another stack")
        assert listed(done) == {}
        assert "- namespace/other-ca: no stack is recorded on it" in done.output
        assert "other-minio" not in done.output
        deployed.run(PRUNE, *variables(OTHER), *CONFIRMED).expect_no_change("prune.yml of the other stack")
    finally:
        stack.kubectl("delete", "namespace", "other-ca", "other-minio", "--ignore-not-found", "--timeout=120s")
    assert stack.pods("minio"), "the stack's own is still there"
