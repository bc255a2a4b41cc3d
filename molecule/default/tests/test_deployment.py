"""In what order a first deployment came about. Before test_leaks.py, which runs the Jobs anew and so ends the proof."""

import kubernetes


def test_pods_that_serve_migrate_nothing(stack):
    """The databases were migrated by a Job that has ended, before the pods that serve."""
    jobs = kubernetes.client.BatchV1Api(stack.api).list_namespaced_job("mlflow").items
    assert len(jobs) == 1
    assert jobs[0].status.succeeded == 1
    oldest = min(set_.metadata.creation_timestamp for set_ in stack.apps.list_namespaced_replica_set("mlflow").items)
    assert jobs[0].status.completion_time <= oldest
