"""What a task returns of applied objects, and in which order they are applied."""

from types import SimpleNamespace

import pytest
from ansible_collections.mlops.mlflow.plugins.action import manifests_apply
from ansible_collections.mlops.mlflow.plugins.action.manifests_apply import by_definition, summary


def manifest(kind, name, namespace=None):
    return {"kind": kind, "metadata": {"name": name} | ({"namespace": namespace} if namespace else {})}


def live(kind, name, namespace, **status):
    metadata = {"name": name, "namespace": namespace, "generation": 1}
    return {"kind": kind, "metadata": metadata, "spec": {"replicas": 1}, "status": {"observedGeneration": 1} | status}


READY = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


def test_nothing_to_do():
    manifests = [manifest("Namespace", "a"), manifest("Deployment", "d", "a")]
    applied = [{"changed": False, "result": {"kind": "Namespace"}}, {"result": live("Deployment", "d", "a", **READY)}]
    assert summary(manifests, applied) == {
        "changed": False,
        "changed_objects": [],
        "pending": [],
        "jobs": [],
        "diff": [],
    }


def test_each_change_has_its_difference():
    manifests = [manifest("Namespace", "a"), manifest("ConfigMap", "c", "a"), manifest("ConfigMap", "same", "a")]
    applied = [
        {"changed": True, "diff": {"before": {}, "after": {"x": 1}}, "result": {}},
        {"changed": True, "diff": {"before": {"y": 1}, "after": {"y": 2}}, "result": {}},
        {"changed": False, "diff": {}, "result": {}},
    ]
    found = summary(manifests, applied)
    assert found["changed"]
    assert found["changed_objects"] == ["Namespace a", "ConfigMap a/c"]
    assert [(each["before_header"], each["after"]) for each in found["diff"]] == [
        ("Namespace a", {"x": 1}),
        ("ConfigMap a/c", {"y": 2}),
    ]


def test_a_refused_object_fails_the_task_after_the_others():
    manifests = [manifest("StatefulSet", "m", "a"), manifest("ConfigMap", "c", "b")]
    applied = [
        {"changed": False, "result": {}, "error": {"msg": "Forbidden: updates to the specification"}},
        {"changed": True, "result": {}},
    ]
    found = summary(manifests, applied)
    assert found["failed"]
    assert found["msg"] == "The cluster refused StatefulSet a/m: Forbidden: updates to the specification"
    assert found["changed_objects"] == ["ConfigMap b/c"]


def test_all_jobs_are_named():
    manifests = [manifest("Job", "j-1", "a"), manifest("Service", "s", "a")]
    found = summary(manifests, [{"changed": False, "result": {}}] * 2)
    assert found["jobs"] == [{"kind": "Job", "namespace": "a", "name": "j-1"}]


def test_workloads_that_are_not_ready_are_pending():
    manifests = [manifest(kind, "w", "a") for kind in ("Deployment", "StatefulSet", "Service")]
    applied = [
        {"changed": True, "result": live("Deployment", "w", "a", observedGeneration=0)},
        {"changed": False, "result": live("StatefulSet", "w", "a", readyReplicas=0, updatedReplicas=1)},
        {"changed": True, "result": live("Service", "w", "a")},
    ]
    assert summary(manifests, applied)["pending"] == [
        {"kind": "Deployment", "namespace": "a", "name": "w"},
        {"kind": "StatefulSet", "namespace": "a", "name": "w"},
    ]


# --- kinds that are defined by others of the list

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "certificates.cert-manager.io"},
    "spec": {"group": "cert-manager.io"},
}
CERTIFICATE = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"namespace": "a", "name": "c"}}
OTHER = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "a", "name": "s"}}


@pytest.mark.parametrize(
    ("groups", "later"),
    [(None, []), (["apps"], [CERTIFICATE]), (["cert-manager.io"], [])],
)
def test_kinds_that_are_new_come_last(groups, later):
    manifests = [CERTIFICATE, DEFINITION, OTHER]
    first, last = by_definition(manifests, groups)
    assert last == later
    assert first == [each for each in manifests if each not in later]
    # Where nobody defines them, the cluster has to know them.
    assert by_definition([CERTIFICATE, OTHER], groups) == ([CERTIFICATE, OTHER], [])


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("unknown", [0, 2, 99])
def test_new_kinds_are_tried_until_they_are_served(monkeypatch, check, unknown):
    """The API server serves a kind a moment after its definition; in check mode there is none to ask for."""
    calls, slept = [], []

    def execute(_self, _module, module_args, task_vars):
        names = [each["kind"] for each in module_args["definition"]]
        calls.append(names)
        if names == ["Certificate"]:
            missing = len(calls) <= 1 + unknown
            error = {"error": {"msg": "Failed to find exact match for cert-manager.io/v1.Certificate by [kind]"}}
            return {"changed": not missing, "result": {}} | (error if missing else {})
        return {"result": {"results": [{"changed": True, "result": {}} for _each in names]}}

    plugin = object.__new__(manifests_apply.ActionModule)
    plugin._task = SimpleNamespace(check_mode=check)
    options = {"manifests": [CERTIFICATE, DEFINITION, OTHER], "field_manager": "x", "api_groups": []}
    options |= {"kubeconfig": None, "context": None}
    plugin.validate_argument_spec = lambda argument_spec: (None, options)
    monkeypatch.setattr(manifests_apply.ActionBase, "run", lambda *_unused: {})
    monkeypatch.setattr(manifests_apply.ActionModule, "_execute_module", execute)
    monkeypatch.setattr(manifests_apply.time, "sleep", slept.append)
    result = plugin.run()
    assert calls[0] == ["CustomResourceDefinition", "Service"]
    if check:
        assert (len(calls), result["changed_objects"][-1]) == (1, "Certificate a/c")
    else:
        assert len(calls) == 1 + min(unknown + 1, len(slept))
        assert bool(result.get("failed")) is (unknown == 99)
        assert ("Certificate a/c" in result["changed_objects"]) is (unknown != 99)
