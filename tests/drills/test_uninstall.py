"""uninstall.yml keeps data unless deletion is requested."""

import json

from tests.lib import stack as stacks
from tests.lib.drill import UNINSTALL, differing

LABEL = "-l=app.kubernetes.io/part-of=mlflow-platform"
WORKLOADS = "deployments,statefulsets,replicasets,jobs,pods,services,poddisruptionbudgets,horizontalpodautoscalers"
# Kubernetes creates some of these itself, without the label.
LABELLED = "configmaps,serviceaccounts,roles,rolebindings"
UNBOUND = "crd,clusterroles,clusterrolebindings"
# The inventory creates a program's credentials in a team's namespace.
GIVEN = "Secret mlflow-team/keycloak-client-tests-ci"
# The namespace stays, since the team may have put something there, and Kubernetes makes these in each.
TEAM = {
    "Namespace <none> mlflow-team",
    "ConfigMap mlflow-team kube-root-ca.crt",
    "ServiceAccount mlflow-team default",
}


def objects(stack, kinds, *where):
    """Return the names of objects by namespace."""
    listed = json.loads(stack.kubectl("get", kinds, *(where or ("-A",)), "-o", "json"))["items"]
    return {
        f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}": item for item in listed
    }


def ours(stack, kinds):
    """Return the objects in the stack's namespaces."""
    return {
        name: item
        for name, item in objects(stack, kinds).items()
        if item["metadata"].get("namespace") in stacks.NAMESPACES.values()
    }


def test_data_is_kept(deployed):
    stack = deployed.stack
    run = deployed.use("before uninstall.yml")
    token = stack.environment["MLFLOW_TRACKING_PASSWORD"]
    credentials = deployed.credentials()
    volumes = {name: item["metadata"]["uid"] for name, item in ours(stack, "pvc").items()}
    assert volumes

    deployed.whole = False
    removed = deployed.run(UNINSTALL).expect_success("uninstall.yml")
    deployed.say(f"  uninstall.yml: {removed.seconds:.0f} s, changed={removed.count('changed')}")
    assert sorted(ours(stack, WORKLOADS)) == [], "uninstall.yml left these"
    assert {name: item["metadata"]["uid"] for name, item in ours(stack, "pvc").items()} == volumes
    assert differing(credentials, deployed.credentials()) == [], "uninstall.yml changed or removed these"
    assert sorted(objects(stack, LABELLED, "-A", LABEL)) == [], "uninstall.yml left these"
    # Deleting the CRD would delete every SealedSecret.
    assert sorted(objects(stack, UNBOUND, LABEL)) == ["CustomResourceDefinition /sealedsecrets.bitnami.com"]
    deployed.run(UNINSTALL).expect_no_change("uninstall.yml, once more")

    deployed.site("site.yml after uninstall.yml")
    assert differing(credentials, deployed.credentials()) == [], "site.yml gave these other values"
    deployed.look(run, token)
    assert deployed.stack.environment["MLFLOW_TRACKING_PASSWORD"] == token, "the token is not valid any more"
    deployed.use("after uninstall.yml and site.yml")


def test_data_is_deleted(deployed):
    stack = deployed.stack
    run = deployed.use("before uninstall.yml -e platform_delete_data=true")
    credentials = deployed.credentials()
    assert GIVEN in objects(stack, "secrets")

    deployed.whole = False
    words = (UNINSTALL, "-e", "platform_delete_data=true")
    refused = deployed.run(*words)
    assert refused.code != 0
    assert "- volume postgres/postgres-data, " in refused.output
    assert "Confirm it by -e platform_confirm=kind" in refused.output
    assert refused.count("changed") == 0
    deployed.look(run, stack.environment["MLFLOW_TRACKING_PASSWORD"])
    words = (*words, "-e", "platform_confirm=kind")
    removed = deployed.run(*words).expect_success("uninstall.yml with platform_delete_data")
    deployed.say(f"  uninstall.yml with platform_delete_data: {removed.seconds:.0f} s")
    there = {each.metadata.name for each in stack.core.list_namespace().items}
    assert sorted(there & set(stacks.NAMESPACES.values())) == [], "namespaces that are left"
    assert sorted(ours(stack, "pvc")) == [], "volume claims that are left"
    # The provisioner removes volumes asynchronously.
    stacks.wait_until(lambda: not objects(stack, "pv"), 120, "no persistent volume is left")
    assert sorted(objects(stack, UNBOUND, LABEL)) == [], "objects without a namespace that are left"
    stacks.wait_until(lambda: GIVEN not in objects(stack, "secrets"), 60, "what a team had of it goes too")
    assert list(deployed.directory.glob("sealed/**/*.yaml")) == [], "files that no key opens any more"
    deployed.run(*words).expect_no_change("uninstall.yml with platform_delete_data, once more")
    if deployed.never:
        stacks.wait_until(
            lambda: stack.everything() - TEAM == deployed.never - TEAM, 60, "as if there had been no stack"
        )

    deployed.deploy_on_empty()
    kept = {name for name, value in deployed.credentials().items() if credentials.get(name) == value}
    assert sorted(name for name in kept if name.endswith(("/password", "secret-key", "client-secret"))) == []
    deployed.use("after everything was deleted")
    rows = deployed.stack.sql("mlflow", f"SELECT count(*) FROM runs WHERE run_uuid = '{run}'")
    assert rows == [["0"]]


def test_deploys_again_after_deletion(deployed):
    """After a deletion, a new deployment works like the first."""
    done = deployed.run("playbooks/site.yml")
    done.expect_no_change("site.yml, once more")
