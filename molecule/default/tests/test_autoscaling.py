"""Who counts the pods: a number that the manifests give up, an autoscaler, and the manifests again.

Of a Deployment of its own, whose pods need not run. An autoscaler keeps to its min without any metric.
"""

import json

import pytest
import yaml

from tests.lib import stack as stacks

NAMESPACE = "tests-autoscaling"
NAME = {"name": "counted", "namespace": NAMESPACE}
LABELS = {"app": "counted"}


def deployment(**spec):
    containers = [{"name": "none", "image": "none.example.com/none:1"}]
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": containers}}
    whole = {"selector": {"matchLabels": LABELS}, "template": template} | spec
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": NAME, "spec": whole}


def autoscaler(least):
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME["name"]}
    spec = {"minReplicas": least, "maxReplicas": 6, "scaleTargetRef": target}
    spec["metrics"] = [{"type": "Resource", "resource": metric}]
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": NAME, "spec": spec}


@pytest.fixture
def apply(stack, tmp_path):
    """Applies manifests as a run does, and gives what has changed."""

    def run(*manifests, check=False):
        task = {
            "mlops.mlflow.manifests_apply": {
                "kubeconfig": str(stack.kubeconfig),
                "field_manager": "mlops.mlflow",
                "manifests": list(manifests),
            },
            "register": "applied",
        }
        shown = {"ansible.builtin.copy": {"content": "{{ applied.changed_objects | to_json }}", "dest": str(told)}}
        play = {"hosts": "mlflow", "gather_facts": False, "tasks": [task, shown | {"check_mode": False}]}
        (tmp_path / "apply.yml").write_text(yaml.safe_dump([play]))
        done = stack.playbook(*(["--check"] if check else []), playbook=str(tmp_path / "apply.yml"))
        assert done.code == 0, done.output
        return json.loads(told.read_text())

    told = tmp_path / "changed.json"
    stack.kubectl("create", "namespace", NAMESPACE)
    yield run
    stack.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_no_pod_goes_when_an_autoscaler_comes_or_goes(stack, apply):
    def replicas():
        return int(stack.kubectl("-n", NAMESPACE, "get", "deployment", NAME["name"], "-o", "jsonpath={.spec.replicas}"))

    scaled = f"HorizontalPodAutoscaler {NAMESPACE}/counted"
    apply(deployment(replicas=3))
    assert replicas() == 3

    assert apply(deployment(), autoscaler(1), check=True) == [scaled], "a dry run told of fewer pods"
    assert scaled in apply(deployment(), autoscaler(1))
    assert replicas() == 3, "the default is one pod"
    assert apply(deployment(), autoscaler(1)) == []
    assert replicas() == 3

    # The autoscaler counts, and a run leaves it alone.
    apply(deployment(), autoscaler(5))
    stacks.wait_until(lambda: replicas() == 5, 120, "the autoscaler to have five pods")
    assert apply(deployment(), autoscaler(5)) == []
    assert replicas() == 5

    stack.kubectl("-n", NAMESPACE, "delete", "horizontalpodautoscaler", NAME["name"])
    assert apply(deployment(replicas=2)) == [f"Deployment {NAMESPACE}/counted"]
    assert replicas() == 2
    # And once more, with what is left of the first time.
    apply(deployment(), autoscaler(1))
    assert replicas() == 2
