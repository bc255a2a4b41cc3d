"""What a task returns of applied objects."""

from ansible_collections.mlops.mlflow.plugins.action.manifests_apply import summary


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
