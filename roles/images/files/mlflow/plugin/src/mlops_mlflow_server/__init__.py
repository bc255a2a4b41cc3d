"""The server's side of the collection `mlops.mlflow`: two MLflow plugins and three commands.

- `mlops_mlflow_server.s3`: artifact repository for `s3://` that keeps transfers behind the tracking server.
- `mlops_mlflow_server.app`: MLflow with one of its ways to log in (`login_oidc`, `login_basic`, `login_none`), with
  threads of its own for artifacts and with an outage of the database answered as an outage.
- `python -m mlops_mlflow_server.serve`: serves it.
- `python -m mlops_mlflow_server.migrate`: brings both databases to this version's schema, and takes users and
  permissions along to another way to log in.
- `python -m mlops_mlflow_server.wait`: waits until that was done for the installed versions.

Every setting is an environment variable `MLOPS_...`; `mlops_mlflow_server.settings` lists them.
"""
