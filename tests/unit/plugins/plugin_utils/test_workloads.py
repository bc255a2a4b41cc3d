# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What platform_workloads asks for, in manifests."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils.workloads import placed, settings

OWN = {"app.kubernetes.io/name": "web"}
SELECTOR = {"matchLabels": OWN}
NODES = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
SETTINGS = {
    "node_selector": ("nodeSelector", {"disk": "ssd"}),
    "tolerations": ("tolerations", [{"key": "gpu", "operator": "Exists"}]),
    "affinity": ("affinity", {"nodeAffinity": {"x": 1}}),
    "priority_class": ("priorityClassName", "high"),
}


def workload(kind: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    """Give a workload with one label."""
    template = {"metadata": {"labels": dict(OWN)}, "spec": {"containers": []}}
    content = {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
    selector = {"selector": SELECTOR} if kind in ("Deployment", "StatefulSet", "DaemonSet") else {}
    metadata = {"name": name, "namespace": "a", "labels": dict(OWN)}
    return {"apiVersion": "x/v1", "kind": kind, "metadata": metadata, "spec": {**selector, **content, **spec}}


def pod(thing: dict[str, Any]) -> dict[str, Any]:
    """Give the template of a workload's pods."""
    inner = thing["spec"]["jobTemplate"] if thing["kind"] == "CronJob" else thing
    return inner["spec"]["template"]


KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
SINGLE = [
    workload("Deployment", strategy={"type": "Recreate"}),
    workload("StatefulSet", replicas=1),
    *(workload(kind) for kind in ("DaemonSet", "Job", "CronJob")),
]


@pytest.mark.parametrize("thing", SINGLE, ids=lambda thing: thing["kind"])
@pytest.mark.parametrize("rules", [[], [{"names": ["other"], "priority_class": "high", "labels": {"a": "b"}}]])
def test_what_no_rule_is_for_stays_as_it_is(thing, rules):
    (*_budgets, found) = placed([copy.deepcopy(thing)], "part", rules)
    assert found == thing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", SETTINGS)
def test_each_setting_is_in_the_pods_of_each_kind(kind, key):
    field, value = SETTINGS[key]
    (*_budgets, found) = placed([workload(kind)], "part", [{key: value}])
    assert pod(found)["spec"][field] == value
    others = {name for name, _unused in SETTINGS.values()} - {field}
    assert not others & pod(found)["spec"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_annotations_are_on_workload_and_pods_but_not_in_selectors(kind):
    asked = {**OWN, "app.kubernetes.io/name": "other", "team": "ml"}
    (*_budgets, found) = placed([workload(kind)], "part", [{"labels": asked, "annotations": {"note": "n"}}])
    for metadata in (found["metadata"], pod(found)["metadata"]):
        assert metadata["labels"] == {**OWN, "team": "ml"}, "its own label is not replaced"
        assert metadata["annotations"] == {"note": "n"}
    assert found["spec"].get("selector", SELECTOR) == SELECTOR


def test_own_annotations_are_replaced_where_asked():
    thing = workload("StatefulSet", replicas=1)
    pod(thing)["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "x": "y"}
    (_budget, found) = placed([thing], "part", [{"annotations": {"prometheus.io/scrape": "false"}}])
    assert pod(found)["metadata"]["annotations"] == {"prometheus.io/scrape": "false", "x": "y"}


@pytest.mark.parametrize(
    ("thing", "spread"),
    [
        (
            workload("Deployment", replicas=1),
            [{**NODES, "labelSelector": SELECTOR, "matchLabelKeys": ["pod-template-hash"]}],
        ),
        (workload("Deployment", strategy={"type": "Recreate"}), None),
        (workload("StatefulSet", replicas=2), [{**NODES, "labelSelector": SELECTOR}]),
        (workload("StatefulSet"), None),
        (workload("Job"), None),
    ],
)
def test_pods_are_spread_over_nodes_where_there_may_be_several(thing, spread):
    (*_budgets, found) = placed([thing], "part", [])
    assert pod(found)["spec"].get("topologySpreadConstraints") == spread


def test_another_spread_takes_the_place_of_the_default():
    zones = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 3}
    (_budget, found) = placed([workload("StatefulSet", replicas=1)], "part", [{"topology_spread": [zones]}])
    assert pod(found)["spec"]["topologySpreadConstraints"] == [{"maxSkew": 1, "labelSelector": SELECTOR, **zones}]
    (_budget, found) = placed([workload("Deployment")], "part", [{"topology_spread": []}])
    assert "topologySpreadConstraints" not in pod(found)["spec"]
    own = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
    (_budget, found) = placed([workload("Deployment")], "part", [{"topology_spread": [own]}])
    assert pod(found)["spec"]["topologySpreadConstraints"] == [
        {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", **own}
    ]
    (job,) = placed([workload("Job", "web-1")], "part", [{"topology_spread": [own]}])
    assert "topologySpreadConstraints" not in pod(job)["spec"]


@pytest.mark.parametrize(("given", "expected"), [(None, 1), (0, 0), ("2", 2), ("25%", "25%")])
def test_each_workload_has_a_disruption_budget(given, expected):
    rules = [{"labels": {"team": "ml"}}, {"max_unavailable": given}]
    for kind in ("Deployment", "StatefulSet"):
        (budget, found) = placed([workload(kind)], "part", rules)
        assert found["kind"] == kind
        assert budget == {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "a", "labels": {**OWN, "team": "ml"}},
            "spec": {"maxUnavailable": expected, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": SELECTOR},
        }
    assert [
        each["kind"] for kind in ("Job", "CronJob", "DaemonSet") for each in placed([workload(kind)], "x", rules)
    ] == [
        "Job",
        "CronJob",
        "DaemonSet",
    ]


def test_a_job_that_is_placed_has_a_name_of_its_own():
    """Since a Job's template is immutable."""
    names = [
        placed([workload("Job", f"make-it-{content}")], "part", rules)[0]["metadata"]["name"]
        for content in ("0000", "1111")
        for rules in ([], [{"priority_class": "a"}], [{"priority_class": "b"}], [{"labels": {"a": "b"}}])
    ]
    assert len(set(names)) == len(names)
    assert names[0] == "make-it-0000"
    assert all(name.startswith("make-it-") for name in names)
    again = placed([workload("Job", "make-it-0000")], "part", [{"priority_class": "a"}])[0]["metadata"]["name"]
    assert again == names[1]


def test_other_objects_pass_and_the_order_stays():
    objects = [{"kind": "Namespace", "metadata": {"name": "a"}}, workload("Deployment"), {"kind": "Service"}]
    found = placed(objects, "part", [{"labels": {"a": "b"}}])
    assert [each["kind"] for each in found] == ["Namespace", "PodDisruptionBudget", "Deployment", "Service"]
    assert found[0] == objects[0]


def test_what_was_given_is_not_changed():
    thing = workload("Deployment")
    before = copy.deepcopy(thing)
    placed([thing], "part", [{"labels": {"a": "b"}, "priority_class": "high"}])
    assert thing == before


def test_rules_are_for_all_for_a_component_or_for_a_workload():
    rules = [
        {"priority_class": "low", "labels": {"a": "1", "b": "1"}, "tolerations": [{"key": "x"}]},
        {"names": ["mlflow"], "priority_class": "high", "labels": {"b": "2"}, "tolerations": None},
        {"names": ["minio", "mlflow-migrate"], "priority_class": "", "annotations": {"c": "3"}, "tolerations": []},
    ]
    assert settings(rules, {"keycloak"}) == {
        "priority_class": "low",
        "labels": {"a": "1", "b": "1"},
        "tolerations": [{"key": "x"}],
    }
    assert settings(rules, {"mlflow"})["labels"] == {"a": "1", "b": "2"}
    assert settings(rules, {"mlflow"})["tolerations"] == [{"key": "x"}]
    migrate = settings(rules, {"mlflow", "mlflow-migrate"})
    assert (migrate["priority_class"], migrate["annotations"], migrate["tolerations"]) == ("", {"c": "3"}, [])
