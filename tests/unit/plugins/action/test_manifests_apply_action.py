"""What a task returns of applied objects, and in which order they are applied."""

import json
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


# --- the number of pods, which an autoscaler takes over ---

PATH = "/apis/apps/v1/namespaces/a/deployments/web"
OURS = {"manager": "mlops.mlflow", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}}
HANDED = f"PATCH {PATH}?fieldManager=mlops.mlflow-replicas&force=true"


def without_replicas(**spec):
    metadata = {"name": "web", "namespace": "a"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {}} | spec}


@pytest.fixture
def apply(cluster, kubeconfig, monkeypatch):
    """Runs the task on a Deployment of four pods, and gives what the module would apply."""

    def run(manifest, managed, check=False):
        if managed is not None:
            cluster.store(PATH, {"metadata": {"managedFields": managed}, "spec": {"replicas": 4}})
        module = manifests_apply.ActionModule.__new__(manifests_apply.ActionModule)
        module._task = SimpleNamespace(check_mode=check)
        module._loader = SimpleNamespace(get_basedir=lambda: "/")
        applied = []

        def execute(name, module_args, task_vars):
            # Before the module is called.
            applied.append((name, module_args["definition"], list(cluster.writes())))
            return {"changed": True, "result": {}}

        monkeypatch.setattr(module, "_execute_module", execute)
        options = {"kubeconfig": kubeconfig, "context": None, "manifests": [manifest], "field_manager": "mlops.mlflow"}
        options["api_groups"] = None
        result = module.act(options, {})
        return result, applied

    return run


def test_a_number_of_pods_that_is_given_up_stays(cluster, apply, monkeypatch):
    bodies = []
    serve = cluster.serve
    monkeypatch.setattr(
        cluster,
        "serve",
        lambda method, target, body, kind: bodies.append((kind, body)) or serve(method, target, body, kind),
    )
    result, [(name, (manifest,), written)] = apply(without_replicas(), [OURS])
    assert result["changed_objects"] == ["Deployment a/web"]
    assert (name, written) == ("kubernetes.core.k8s", [HANDED])
    assert "replicas" not in manifest["spec"]
    kind, body = bodies[-1]
    assert kind == "application/apply-patch+yaml"
    assert json.loads(body) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "a"},
        "spec": {"replicas": 4},
    }


@pytest.mark.parametrize(
    "managed",
    [
        None,  # no such Deployment
        [],
        [OURS | {"manager": "somebody"}],
        [OURS | {"operation": "Update"}],
        [OURS | {"fieldsV1": {"f:spec": {"f:template": {}}}}, {"manager": "kube-controller-manager"}],
    ],
)
def test_who_does_not_own_the_number_gives_nothing_up(cluster, apply, managed):
    _result, [(_name, (manifest,), _written)] = apply(without_replicas(), managed)
    assert cluster.writes() == []
    assert "replicas" not in manifest["spec"]


@pytest.mark.parametrize("manifest", [without_replicas(replicas=2), without_replicas() | {"kind": "Job"}])
def test_others_are_not_looked_at(cluster, apply, manifest):
    apply(manifest, [OURS])
    assert cluster.requests == []


def test_check_mode_hands_nothing_over_and_tells_of_no_change_of_the_number(cluster, apply):
    given = without_replicas()
    _result, [(_name, (manifest,), _written)] = apply(given, [OURS], check=True)
    assert cluster.writes() == []
    assert manifest["spec"] == {"template": {}, "replicas": 4}
    assert "replicas" not in given["spec"]


def test_a_cluster_that_refuses_ends_it_before_anything_is_applied(cluster, apply):
    cluster.answers[f"PATCH {PATH}"] = cluster.status(403, "Forbidden", "no")
    result, applied = apply(without_replicas(), [OURS])
    assert result["failed"]
    assert "403 Forbidden" in result["msg"]
    assert applied == []


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
    monkeypatch.setattr(manifests_apply.ActionModule, "_execute_module", execute)
    monkeypatch.setattr(manifests_apply.time, "sleep", slept.append)
    result = plugin.act(options, {})
    assert calls[0] == ["CustomResourceDefinition", "Service"]
    if check:
        assert (len(calls), result["changed_objects"][-1]) == (1, "Certificate a/c")
    else:
        assert len(calls) == 1 + min(unknown + 1, len(slept))
        assert bool(result.get("failed")) is (unknown == 99)
        assert ("Certificate a/c" in result["changed_objects"]) is (unknown != 99)
