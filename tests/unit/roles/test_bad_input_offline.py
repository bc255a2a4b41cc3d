"""Wrong inventories of the scenario default, checked without a cluster: all but those that a module finds."""

import functools

import pytest
import yaml

from tests.lib import checks, rendering
from tests.lib import options as variants

CASES = [
    case
    for case in yaml.safe_load((rendering.REPOSITORY / "molecule/default/tests/bad_input/cases.yml").read_text())
    if "playbook" not in case and "by" not in case
]
# What the runs against a cluster find there.
CLUSTER = {
    "platform_cluster": rendering.CLUSTER
    | {
        "storage_classes": ["standard", "bad-input"],
        "ingress_classes": {"bad-input": ""},
        "node_ports": {"31999": "bad-input/taken"},
        "volumes": {
            "postgres/postgres-data": {"class": "standard", "mib": 10240},
            "minio/data-minio-0": {"class": "standard", "mib": 20480},
        },
        "sealed_secrets_controllers": {"sealed-secrets/sealed-secrets-controller": "mlops.mlflow"},
    }
}
GIVEN = functools.reduce(dict.__or__, variants.BASE.values(), CLUSTER)


@functools.cache
def get_role(name):
    """A role in a play with all the others."""
    return rendering.Role(name, beside=("platform", *(each for each in rendering.COMPONENTS if each != name)))


def refusal(given):
    """What site.yml would say, of the first role that refuses. Roles check their own variables, and what is shared."""
    own = {name: checks.specification(name) for name in rendering.COMPONENTS}
    shared = any(each in checks.specification("platform") for each in given) or not given
    order = [("mlflow", "platform")] if shared else []
    order += [(name, name) for name in rendering.COMPONENTS if shared or own[name].keys() & given.keys()]
    return next((message for name, of in order if (message := checks.refusal(get_role(name), GIVEN | given, of))), "")


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "-") for case in CASES])
def test_case(case):
    message = refusal(case["set"])
    print(message)
    assert [each for each in case["says"] if each not in message] == []


def test_what_is_right_is_not_refused():
    assert refusal({}) == ""
    assert len(CASES) > 80
