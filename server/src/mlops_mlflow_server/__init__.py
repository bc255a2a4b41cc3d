# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server package of the collection `mlops.mlflow`: two MLflow plugins and five commands.

- `mlops_mlflow_server.s3`: artifact repository for `s3://` that keeps transfers behind the tracking server.
- `mlops_mlflow_server.app`: MLflow with one of the login modes (`login_oidc`, `login_basic`, `login_none`), separate
  threads for artifact calls, and 503 during a database outage.
- `python -m mlops_mlflow_server.serve`: serves it.
- `python -m mlops_mlflow_server.migrate`: migrates both databases to this version's schema, and copies users and
  permissions when the login mode changes.
- `python -m mlops_mlflow_server.wait`: waits until the migration of the installed versions has ended.
- `python -m mlops_mlflow_server.backup` and `... .restore`: steps of a backup and of a restore.

Every setting is an environment variable `MLOPS_...`; `mlops_mlflow_server.settings` lists them.
"""
