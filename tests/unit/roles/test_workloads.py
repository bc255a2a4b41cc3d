"""What platform_workloads and mlflow_autoscaling come to in the manifests of all components."""

import functools

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workloads import placed

from tests.lib import checks, rendering
from tests.lib.options import BASE

POD_NAME = "app.kubernetes.io/name"
NODES = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
# The workloads of each role, all of them, by the names of their pods.
WORKLOADS = {
    "sealed_secrets": {"sealed-secrets"},
    "postgres": {"postgres", "postgres-provision"},
    "minio": {"minio", "minio-provision"},
    "keycloak": {"keycloak"},
    "mlflow": {"mlflow", "mlflow-migrate", "mlflow-gc", "mlflow-traces", "mlflow-oauth2-proxy"},
    "traefik": {"traefik"},
    "cert_manager": {"cert-manager"},
    "backup": {"backup", "restore-drill"},
}
SETTINGS = {
    "labels": {"example.com/team": "ml"},
    "annotations": {"example.com/note": "on: call"},
    "node_selector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}]
            }
        }
    },
    "priority_class": "system-cluster-critical",
    "topology_spread": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "max_unavailable": "25%",
}


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def render(role, template, **options):
    """What a template says."""
    return get_role(role).render(template, BASE.get(role, {}) | {"mlflow_auth": "oauth2_proxy"} | options)


@functools.cache
def rendered(role):
    """What the templates of a role say, with all of its workloads."""
    return [each for template in get_role(role).templates for each in render(role, template)]


def manifests(role, rules=(), options=None):
    """The manifests of a role as they are applied, by these rules of platform_workloads."""
    if options:
        return get_role(role).manifests(BASE.get(role, {}) | {"platform_workloads": list(rules)} | options)
    return placed(rendered(role), role, list(rules))


def workloads(things):
    """Manifests of workloads by the names of their pods."""
    return {
        template["metadata"]["labels"][POD_NAME]: each
        for each in things
        if (template := rendering.pod_template(each)) is not None
    }


def budgets(things):
    """PodDisruptionBudgets by their names."""
    return {each["metadata"]["name"]: each["spec"] for each in things if each["kind"] == "PodDisruptionBudget"}


def pods(workload):
    return rendering.pod_template(workload)["spec"]


@functools.cache
def plain(role):
    """The workloads of a role by default."""
    return workloads(manifests(role))


def in_pods(key, workload):
    """What a setting came to in a workload."""
    template = rendering.pod_template(workload)
    if key in ("labels", "annotations"):
        (name, value), *_none = SETTINGS[key].items()
        found = [each["metadata"].get(key, {}).get(name) == value for each in (workload, template)]
        return SETTINGS[key] if found == [True, True] else None
    field = {"node_selector": "nodeSelector", "priority_class": "priorityClassName"}.get(key, key)
    return template["spec"].get(field)


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_these_are_all_workloads(role):
    assert plain(role).keys() == WORKLOADS[role]
    choices = set(checks.specification("platform")["platform_workloads"]["options"]["names"]["choices"])
    assert {role, *WORKLOADS[role]} - {"sealed-secrets", "cert-manager"} <= choices
    assert choices <= WORKLOADS.keys() | set().union(*WORKLOADS.values())


@pytest.mark.parametrize("role", rendering.COMPONENTS)
@pytest.mark.parametrize("key", sorted(SETTINGS.keys() - {"topology_spread", "max_unavailable"}))
def test_each_setting_reaches_each_workload(role, key):
    found = workloads(manifests(role, [{key: SETTINGS[key]}]))
    assert found.keys() == WORKLOADS[role]
    for name, each in found.items():
        assert in_pods(key, plain(role)[name]) is None, name
        assert in_pods(key, each) == SETTINGS[key], name
        assert each["spec"].get("selector") == plain(role)[name]["spec"].get("selector"), name


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_spread_and_budget_reach_what_has_several_pods(role):
    rules = [{key: SETTINGS[key] for key in ("topology_spread", "max_unavailable")}]
    things = manifests(role, rules)
    for name, each in workloads(things).items():
        spread = pods(each).get("topologySpreadConstraints")
        if each["kind"] in ("Job", "CronJob"):
            assert spread is None
            assert each == plain(role)[name], "it would run again for nothing"
            continue
        (one,) = spread
        assert one["labelSelector"] == each["spec"]["selector"]
        assert (one["topologyKey"], one["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "DoNotSchedule")
        assert budgets(things)[each["metadata"]["name"]]["maxUnavailable"] == "25%"


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_nothing_set_changes_nothing_but_the_spread(role):
    """Which the templates had, before role platform did it."""
    said = workloads(rendered(role))
    for name, each in plain(role).items():
        spec = {key: value for key, value in pods(each).items() if key != "topologySpreadConstraints"}
        assert spec == pods(said[name]), name
        assert each["metadata"] == said[name]["metadata"], name
        assert rendering.pod_template(each)["metadata"] == rendering.pod_template(said[name])["metadata"], name


@pytest.mark.parametrize(
    ("role", "options", "spread"),
    [
        ("mlflow", {}, {"mlflow", "mlflow-oauth2-proxy"}),
        ("mlflow", {"mlflow_replicas": 1}, {"mlflow"}),
        ("traefik", {}, {"traefik"}),
        ("keycloak", {}, set()),
        ("keycloak", {"keycloak_replicas": 3}, {"keycloak"}),
        ("minio", {}, set()),
        ("minio", {"minio_replicas": 4}, {"minio"}),
        ("postgres", {}, set()),
        ("sealed_secrets", {}, set()),
    ],
)
def test_what_is_spread_over_nodes_by_default(role, options, spread):
    things = manifests(role, options=options)
    found = {
        name: constraints
        for name, each in workloads(things).items()
        if (constraints := pods(each).get("topologySpreadConstraints"))
    }
    assert found.keys() == spread
    for name, constraints in found.items():
        each = workloads(things)[name]
        version = {"matchLabelKeys": ["pod-template-hash"]} if each["kind"] == "Deployment" else {}
        assert constraints == [{**NODES, "labelSelector": {"matchLabels": {POD_NAME: name}}, **version}]
    for each in workloads(things).values():
        if each["kind"] not in ("Job", "CronJob"):
            assert budgets(things)[each["metadata"]["name"]] == {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": each["spec"]["selector"],
            }


def test_a_rule_may_be_for_one_component_or_one_workload():
    rules = [{"names": ["postgres", "mlflow-migrate"], "priority_class": "high"}]
    found = {
        name
        for role in rendering.COMPONENTS
        for name, each in workloads(manifests(role, rules)).items()
        if pods(each).get("priorityClassName")
    }
    assert found == {"postgres", "postgres-provision", "mlflow-migrate"}


@pytest.mark.parametrize("rules", [[], [{"names": ["postgres"], "priority_class": "high"}]])
def test_a_component_of_a_run_has_the_rules(rules):
    (task, *_others) = rendering.tasks_of("platform", "component")
    given = {"platform_component": {"name": "x", "namespace": "x"}, "ansible_parent_role_paths": ["/x"]}
    given |= {"platform_workloads": rules, "platform_network_policies": False} | task["vars"]
    (found,) = get_role("postgres").template(task["ansible.builtin.set_fact"]["platform_run"], given)
    assert found["workloads"] == rules
    assert found["switched_off_first"] == []


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_no_flow_depends_on_it(role):
    rules = [{key: SETTINGS[key] for key in ("labels", "annotations")}]
    assert get_role(role).policies({"platform_workloads": rules}) == get_role(role).policies()


# --- autoscaling ---

AUTOSCALING = {"min": 3, "max": 8}
CPU = {
    "type": "ContainerResource",
    "containerResource": {
        "name": "cpu",
        "container": "mlflow",
        "target": {"type": "Utilization", "averageUtilization": 80},
    },
}
BUSY = {
    "type": "Pods",
    "pods": {"metric": {"name": "mlflow_calls"}, "target": {"type": "AverageValue", "averageValue": "6"}},
}
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 600}}


def scaled(**more):
    """The server and its autoscaler."""
    given = {"mlflow_autoscaling": AUTOSCALING | more}
    templates = ("mlflow.deployment.yaml.j2", "mlflow.horizontalpodautoscaler.yaml.j2")
    return placed([each for name in templates for each in render("mlflow", name, **given)], "mlflow", [])


def autoscalers(things):
    return [each for each in things if each["kind"] == "HorizontalPodAutoscaler"]


@pytest.mark.parametrize(
    ("more", "metrics"),
    [
        ({}, [CPU]),
        ({"metrics": []}, [CPU]),
        ({"metrics": [BUSY]}, [BUSY]),
        ({"metrics": [BUSY], "cpu": 80}, [CPU, BUSY]),
    ],
)
def test_an_autoscaler_takes_the_place_of_a_number(more, metrics):
    things = scaled(**more)
    (found,) = autoscalers(things)
    deployment = workloads(things)["mlflow"]
    assert "replicas" not in deployment["spec"]
    assert found["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]},
        "minReplicas": 3,
        "maxReplicas": 8,
        "metrics": metrics,
    }
    containers = {each["name"]: each["resources"]["requests"]["cpu"] for each in pods(deployment)["containers"]}
    assert containers["mlflow"]
    # Nothing else knows of it.
    rest = {**deployment, "spec": {**deployment["spec"], "replicas": 2}}
    assert rest == plain("mlflow")["mlflow"]


def test_behavior_is_passed_on():
    (found,) = autoscalers(scaled(behavior=BEHAVIOR))
    assert found["spec"]["behavior"] == BEHAVIOR


@pytest.mark.parametrize("there", [[], ["mlflow/mlflow"], ["other/mlflow"]])
@pytest.mark.parametrize("autoscaling", [{}, AUTOSCALING])
def test_an_autoscaler_that_is_no_longer_asked_for_goes_first(there, autoscaling):
    """Before the number of pods is applied, which it would change back."""
    cluster = {"platform_cluster": rendering.CLUSTER | {"autoscalers": there}}
    component = get_role("mlflow").value("mlflow_component", cluster | {"mlflow_autoscaling": autoscaling})
    gone = component["switched_off_first"]
    assert bool(gone) == (there == ["mlflow/mlflow"] and not autoscaling)
    assert all(each["kind"] == "HorizontalPodAutoscaler" for each in gone)
    assert autoscalers(manifests("mlflow")) == []


def test_connections_of_postgres_are_enough_for_the_most_pods():
    known = {"mlflow_replicas": 3, "mlflow_autoscaling": AUTOSCALING, "mlflow_workers": 2}
    assert int(get_role("postgres").value("__postgres_mlflow_workers", known)) == 16
    assert int(get_role("postgres").value("postgres_max_connections", known)) == 16 * 77 // 100 * 100 + 100
    message = checks.refusal(get_role("postgres"), known | {"postgres_max_connections": 300})
    assert "16 workers (mlflow_autoscaling.max x mlflow_workers)" in message


def test_autoscaling_and_a_number_may_agree():
    served = rendering.CLUSTER | {"api_groups": ["metrics.k8s.io", "custom.metrics.k8s.io"]}
    known = BASE["mlflow"] | {"platform_cluster": served, "mlflow_autoscaling": AUTOSCALING | {"metrics": [BUSY]}}
    assert checks.refusal(get_role("mlflow"), known) == ""
    assert checks.refusal(get_role("mlflow"), known | {"mlflow_replicas": 3}) == ""
    assert checks.refusal(get_role("mlflow"), known | {"mlflow_replicas": 2}).startswith("mlflow_replicas is 2, and")
    assert get_role("mlflow").value("mlflow_replicas") == 2


# --- the API server ---


@pytest.mark.parametrize("role", rendering.COMPONENTS)
@pytest.mark.parametrize("rules", [[], [SETTINGS]], ids=["default", "all"])
def test_api_server_accepts_what_is_placed(server, role, rules):
    more = {"mlflow_autoscaling": AUTOSCALING | {"metrics": [BUSY], "cpu": 60, "behavior": BEHAVIOR}} if rules else {}
    things = manifests(role, rules, more)
    found = [each for each in things if rendering.pod_template(each) or each in autoscalers(things)]
    found += [each for each in things if each["kind"] == "PodDisruptionBudget"]
    assert {each["metadata"]["name"]: refused for each in found if (refused := server.apply(each))} == {}
