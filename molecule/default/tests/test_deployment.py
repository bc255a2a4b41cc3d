"""The order of a first deployment. Runs before test_leaks.py, which recreates the Jobs."""

import kubernetes


def test_migration_ends_before_the_server_starts(stack):
    """A Job migrated the databases before the server's pods started."""
    jobs = kubernetes.client.BatchV1Api(stack.api).list_namespaced_job("mlflow").items
    assert len(jobs) == 1
    assert jobs[0].status.succeeded == 1
    oldest = min(set_.metadata.creation_timestamp for set_ in stack.apps.list_namespaced_replica_set("mlflow").items)
    assert jobs[0].status.completion_time <= oldest
