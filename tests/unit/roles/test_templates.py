"""Every template of every role, over the combinations of the options that it looks at."""

import functools
import hashlib
import itertools
import json
import math
import re

import covertable
import jinja2
import jinja2.nodes
import pytest
import yaml

from tests.lib import rendering
from tests.lib.options import BASE, BY_TASKS, FLOWS, REFUSED, UNDECIDED, VARIANTS


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def choices(counts):
    """All combinations of so many values each; where these are too many, some in which any three values meet."""
    if math.prod(counts) <= MOST_COMBINATIONS:
        return itertools.product(*map(range, counts))
    return covertable.make([list(range(count)) for count in counts], strength=3)


def combinations(role):
    """For each template of a role, its flows and its edge, combinations of the options that are read."""
    for template in (*get_role(role).templates, *BY_TASKS.get(role, {}), *rendering.READ):
        variants = VARIANTS[role] | FLOWS if template == "flows" else VARIANTS[role]
        names = sorted(get_role(role).options_of(template) & variants.keys())
        for indexes in choices([len(variants[name]) for name in names]):
            chosen_ones = {name: variants[name][index] for name, index in zip(names, indexes, strict=True)}
            options = BASE.get(role, {}) | BY_TASKS.get(role, {}).get(template, {}) | chosen_ones
            if any(refused.items() <= options.items() for refused in REFUSED):
                continue
            chosen = "-".join(f"{name.removeprefix(f'{role}_')}.{i}" for name, i in zip(names, indexes, strict=True))
            name = template.removesuffix(".yaml.j2") if template not in rendering.READ else f"{role}-{template}"
            yield pytest.param(role, template, options, id=f"{name}-{chosen or 'only'}")


# No template decides by more than three options together.
MOST_COMBINATIONS = 1600

ROLES = [role for role in rendering.COMPONENTS if role in VARIANTS]
COMBINATIONS = [each for role in ROLES for each in combinations(role)]
# Rendered manifests by their content: combinations share most of them.
DOCUMENTS = {}
SEEN = set()


def pods(document):
    """The pod specifications of a manifest."""
    if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield document["spec"]["template"]["spec"]
    elif document["kind"] == "CronJob":
        yield document["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(("role", "template", "options"), COMBINATIONS)
def test_combination(role, template, options):
    """What all manifests have, NetworkPolicies of flows among them."""
    made = {"flows": get_role(role).policies, "edge": get_role(role).edge}.get(template)
    for document in made(options) if made else get_role(role).render(template, options):
        SEEN.add(template)
        metadata = document["metadata"]
        name = f"{document['kind']} {metadata['name']}"
        text = json.dumps(document)
        DOCUMENTS.setdefault(hashlib.sha256(text.encode()).hexdigest(), (f"{template} {options}", document))
        assert document["kind"] != "Secret"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "mlops.mlflow", name
        # Prometheus fills in annotations of alerts, and Grafana legends.
        assert "{{" not in text or name in ("PrometheusRule mlflow", "ConfigMap mlflow-dashboards"), name
        assert "{%" not in text, name
        if document["kind"] == "Namespace":
            assert metadata["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        for spec in pods(document):
            assert spec.get("enableServiceLinks") is False, name
            assert "automountServiceAccountToken" in spec, name
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
                assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
                assert "memory" in container["resources"]["limits"], name
                assert "command" in container or "args" in container, name


@pytest.mark.parametrize("role", ROLES)
def test_every_template_is_listed(role):
    """No template stands in the folder that is never applied, and each renders something."""
    listed = [*get_role(role).templates, *BY_TASKS.get(role, {})]
    assert set(listed) == {path.name for path in (rendering.ROLES / role / "templates").glob("*.yaml.j2")}
    assert set(listed) <= SEEN


@pytest.mark.parametrize("role", ROLES)
def test_manifests_of_a_role(role):
    """A role's namespace comes first, and no two manifests are of one name."""
    manifests = get_role(role).manifests(BASE.get(role, {}))
    assert manifests[0]["kind"] == "Namespace"
    names = [
        (each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in manifests
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("role", ROLES)
def test_all_that_templates_decide_by_is_varied(role):
    """An option in the condition of a template, directly or through a variable of the role, has more than one value."""
    defaults = yaml.safe_load((rendering.ROLES / role / "defaults" / "main.yml").read_text())
    internal = yaml.safe_load((rendering.ROLES / role / "vars" / "main.yml").read_text())
    environment = jinja2.Environment(autoescape=False, extensions=["jinja2.ext.do"])  # noqa: S701  it makes YAML, not HTML
    deciding = set()

    def names(node):
        return {each.name for each in node.find_all(jinja2.nodes.Name)}

    for path in (rendering.ROLES / role / "templates").glob("*.j2"):
        for node in environment.parse(path.read_text()).find_all(
            (jinja2.nodes.If, jinja2.nodes.CondExpr, jinja2.nodes.For)
        ):
            deciding |= names(node.iter if isinstance(node, jinja2.nodes.For) else node.test)
    unseen = list(deciding)
    while unseen:
        text = json.dumps(internal.get(unseen.pop(), ""))
        found = set(re.findall(r"\b_{0,2}[a-z][a-z0-9_]+\b", text)) & (internal.keys() | defaults.keys())
        unseen += found - deciding
        deciding |= found
    assert (deciding & defaults.keys()) - UNDECIDED - VARIANTS[role].keys() == set()


@pytest.mark.parametrize(
    ("role", "template", "container"),
    [
        ("keycloak", "keycloak.statefulset.yaml.j2", "wait-for-postgres"),
        ("mlflow", "mlflow-migrate.job.yaml.j2", "wait-for-postgres"),
        ("mlflow", "mlflow.deployment.yaml.j2", "wait-for-migration"),
    ],
)
def test_pods_wait_for_dependencies_of_the_stack(role, template, container):
    """An init container waits for PostgreSQL of the stack; for another's database it would hide a wrong password."""
    for host, own in (("postgres.postgres.svc", True), ("db.example.com", False)):
        options = BASE.get(role, {}) | {f"{role}_db_host": host}
        (document,) = get_role(role).render(template, options)
        (spec,) = pods(document)
        names = [each["name"] for each in spec.get("initContainers", [])]
        assert (container in names) == (own or container == "wait-for-migration")


@pytest.mark.parametrize("role", ROLES)
def test_rendering_is_stable(role):
    """The same options give the same manifests: nothing is made up while rendering."""
    options = BASE.get(role, {})
    assert get_role(role).manifests(options) == rendering.Role(role).manifests(options)


@pytest.mark.parametrize("role", ROLES)
def test_no_manifest_depends_on_a_run(role):
    """With another time limit no Job runs again, since none has another name, and nothing is reported as changed."""
    options = BASE.get(role, {})
    assert get_role(role).manifests(options | {"platform_timeout": 900}) == get_role(role).manifests(options)


# Their CRDs are not of a plain cluster; the scenario `edge` has those of the Gateway API.
OF_CRDS = ("cert-manager.io/", "gateway.networking.k8s.io/", "monitoring.coreos.com/")


def test_api_server_accepts_them_all(server):
    assert DOCUMENTS, "nothing was rendered before"
    refused = {}
    for where, document in DOCUMENTS.values():
        if document["apiVersion"].startswith(OF_CRDS) and not server.knows(document):
            continue
        refusal = server.apply(document)
        if refusal:
            refused[f"{where}: {document['kind']} {document['metadata']['name']}"] = refusal
    print(f"{len(DOCUMENTS)} manifests of {len(COMBINATIONS)} combinations")
    assert refused == {}


def test_api_server_refuses_what_is_wrong(server):
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "wrong", "namespace": "x"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
        },
    }
    assert "violate PodSecurity" in server.apply(document)
    document["spec"]["replica"] = 2
    assert "replica" in server.apply(document)
