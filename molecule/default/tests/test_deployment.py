"""In what order a first deployment came about. Before test_leaks.py, which runs the Jobs again and so ends the proof."""

import kubernetes


def test_pods_that_serve_migrate_nothing(stack):
    """The databases were migrated by a Job that has ended, before any server started, though its pod was there."""
    jobs = kubernetes.client.BatchV1Api(stack.api).list_namespaced_job("mlflow").items
    assert len(jobs) == 1
    assert jobs[0].status.succeeded == 1
    pods = stack.core.list_namespaced_pod("mlflow", label_selector="app.kubernetes.io/name=mlflow").items
    starts = [pod.status.container_statuses[0].state.running.started_at for pod in pods]
    assert starts
    assert jobs[0].status.completion_time <= min(starts)
    assert {pod.status.init_container_statuses[0].name for pod in pods} == {"wait-for-migration"}
