# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry points of the artifact repositories; importing this module does not import MLflow.

MLflow loads entry points while it is being imported itself, so a module that imports MLflow would find it incomplete.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


def s3(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> "ArtifactRepository":
    """Return the repository for `s3://` URIs, see `mlops_mlflow_server.s3`, or `direct` if that is wanted."""
    if os.environ.get("MLOPS_ARTIFACTS_DIRECT", "") == "true":
        from mlops_mlflow_server.direct import DirectS3ArtifactRepository  # noqa: PLC0415  (see above)

        return DirectS3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
    from mlops_mlflow_server.s3 import ProxiedS3ArtifactRepository  # noqa: PLC0415  (see above)

    return ProxiedS3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
