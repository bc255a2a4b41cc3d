"""Entry points of the artifact repositories; importing this module imports nothing of MLflow.

MLflow loads entry points while it is itself being imported, so a module that imports MLflow may be only half
there at that moment.
"""


def s3(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None):
    """Return the repository for `s3://` URIs, see `mlops_mlflow_server.s3`."""
    from mlops_mlflow_server.s3 import ProxiedS3ArtifactRepository  # noqa: PLC0415

    return ProxiedS3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
