"""Kubeflow Pipelines: a step that logs to MLflow, and a pipeline that gives it the credentials.

Usage: python kubeflow_pipeline.py > pipeline.yaml    (pip install kfp kfp-kubernetes)

The step reads the Secret `mlflow-credentials`, which `mlflow_clients` creates in the profile's namespace.
"""

from kfp import compiler, dsl, kubernetes

SECRET = "mlflow-credentials"  # noqa: S105 - a name
NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@dsl.component(base_image="registry.example.com/team-a/train:1.0")
def train(alpha: float) -> float:
    """Log one run; MLflow takes URI, user name and token from the environment."""
    import mlflow  # noqa: PLC0415 - only this function runs in the cluster

    mlflow.set_experiment("pipelines")
    with mlflow.start_run():
        mlflow.log_param("alpha", alpha)
        mlflow.log_metric("loss", 0.1)
    return 0.1


@dsl.pipeline(name="train")
def pipeline(alpha: float = 0.5):
    """Train once."""
    step = train(alpha=alpha)
    step.set_caching_options(False)
    kubernetes.use_secret_as_env(step, secret_name=SECRET, secret_key_to_env={name: name for name in NAMES})


if __name__ == "__main__":
    compiler.Compiler().compile(pipeline, "/dev/stdout")
