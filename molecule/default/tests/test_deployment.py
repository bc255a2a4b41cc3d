"""The order of a first deployment. Runs before test_leaks.py, which recreates the Jobs."""

import kubernetes


def test_migration_ends_before_the_server_starts(stack):
    """A Job migrated the databases before the server's pods started."""
    jobs = kubernetes.client.BatchV1Api(stack.api).list_namespaced_job("mlflow").items
    assert len(jobs) == 1
    assert jobs[0].status.succeeded == 1
    pods = stack.core.list_namespaced_pod("mlflow", label_selector="app.kubernetes.io/name=mlflow").items
    starts = [pod.status.container_statuses[0].state.running.started_at for pod in pods]
    assert starts
    assert jobs[0].status.completion_time <= min(starts)
    assert {pod.status.init_container_statuses[0].name for pod in pods} == {"wait-for-migration"}
