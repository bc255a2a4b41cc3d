"""Checks of a role's preflight that depend on what the cluster has, or on several variables at once."""

import functools

import pytest
import rendering

CONTROLLER = "sealed-secrets/sealed-secrets-controller"


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def seen(**found):
    """The cluster with something more in it."""
    return {"platform_cluster": rendering.CLUSTER | found}


# --- Sealed Secrets ---


@pytest.mark.parametrize(
    ("controllers", "other"),
    [
        ({}, ""),
        ({CONTROLLER: "mlops.mlflow"}, ""),
        ({CONTROLLER: "Helm"}, CONTROLLER),
        (
            {CONTROLLER: "mlops.mlflow", "kube-system/sealed-secrets-controller": ""},
            "kube-system/sealed-secrets-controller",
        ),
        ({"other/sealed-secrets-controller": "mlops.mlflow"}, "other/sealed-secrets-controller"),
    ],
)
def test_another_controller_is_refused(controllers, other):
    role = get_role("sealed_secrets")
    said = role.refusal("Check that no other controller unseals", seen(sealed_secrets_controllers=controllers))
    assert bool(said) == bool(other)
    if other:
        assert f"the Sealed Secrets controller {other} already: leave sealed_secrets out of platform_components" in said


def test_rights_are_not_those_of_another_controller():
    """What has no namespace has a name that no other stack and no published controller has."""
    role = get_role("sealed_secrets")
    names = [
        {
            each["metadata"]["name"]
            for each in role.render("sealed-secrets.rbac.yaml.j2", options)
            if each["kind"].startswith("Cluster")
        }
        for options in ({}, {"sealed_secrets_namespace": "other"})
    ]
    assert names[0] == {"mlops-mlflow-sealed-secrets-unsealer"}
    assert names[1] == {"mlops-mlflow-other-unsealer"}


def test_former_rights_go_where_nobody_else_has_them():
    role = get_role("sealed_secrets")
    former = {each["kind"]: each["metadata"]["name"] for each in role.value("__sealed_secrets_former")}
    assert former == {"ClusterRole": "secrets-unsealer", "ClusterRoleBinding": "sealed-secrets-controller"}
    for beside in (
        {"sealed_secrets_controllers": {"kube-system/sealed-secrets-controller": ""}},
        {"unreadable": ["sealed_secrets_controllers"]},
    ):
        assert role.value("__sealed_secrets_former", seen(**beside)) == []


def test_sealed_secrets_of_others_keep_their_definition():
    role = get_role("sealed_secrets")
    options = {
        "keycloak_service_accounts": [
            {"name": "ci", "namespaces": ["team"]},
            {"name": "etl", "secret": "x", "namespaces": ["team"]},
        ],
        "postgres_extra_roles": [{"name": "odd_name", "namespaces": ["team"]}],
        "minio_extra_buckets": [{"name": "b.c", "namespaces": ["team"]}],
    }
    own = [
        "mlflow/a",
        "keycloak/b",
        "team/keycloak-client-ci",
        "team/x",
        "team/odd-name-db-credentials",
        "team/b-c-s3-secret",
    ]
    for others in ([], ["mlflow-b/a"], ["team/own"]):
        assert role.value("__sealed_secrets_of_others", options | seen(sealed_secrets=own + others)) == others
    assert role.value("__sealed_secrets_of_others", seen(unreadable=["sealed_secrets"]))
