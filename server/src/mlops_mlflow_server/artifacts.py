# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads of artifacts that stream from the object store, in place of MLflow's copies on disk.

MLflow's Flask routes stay, and so does what is checked before and after them; only what they send is replaced, for
artifacts in S3. MLflow's native routes, which plain MLflow and basic-auth have besides, are removed: they would be
outside the limits of `lanes`, and the Flask routes of the same paths take over.
"""

from flask import Response, current_app, request
from mlflow.server import app, artifact_router, handlers
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.uri import validate_path_is_safe

from mlops_mlflow_server import wsgi
from mlops_mlflow_server.parts import MLFLOW, Part
from mlops_mlflow_server.s3 import ProxiedS3ArtifactRepository

# What is replaced here, and what is called.
_NAMES = (
    "_disable_unless_serve_artifacts",
    "_download_artifact",
    "_get_artifact_repo_mlflow_artifacts",
    "_get_workspace_scoped_repo_path_if_enabled",
    "_response_with_file_attachment_headers",
    "_send_artifact",
)


def _answer(repository: ProxiedS3ArtifactRepository, path: str) -> Response:
    """Answer with an artifact, and the headers that MLflow gives it."""
    found = repository.artifact(path)
    response = current_app.response_class(direct_passthrough=True)
    response.content_length = found.size
    response.last_modified = found.modified
    response.set_etag(found.etag)
    response.cache_control.no_cache = True
    response.make_conditional(request.environ, accept_ranges=True, complete_length=found.size)
    if response.status_code == 206:
        response.response = found.chunks(response.content_range.start, response.content_range.stop)
    elif response.status_code == 200:
        response.response = found.chunks(0, found.size)
    return handlers._response_with_file_attachment_headers(path, response)


def install() -> bool:
    """Replace the downloads of MLflow's Flask application; return whether this version has what is replaced."""
    if not all(hasattr(handlers, name) for name in _NAMES):
        return False
    mlflows_send = handlers._send_artifact

    def send(repository: ArtifactRepository, path: str) -> Response:
        if isinstance(repository, ProxiedS3ArtifactRepository):
            return _answer(repository, path)
        return mlflows_send(repository, path)

    @handlers.catch_mlflow_exception
    @handlers._disable_unless_serve_artifacts
    def download(artifact_path: str) -> Response:
        path = handlers._get_workspace_scoped_repo_path_if_enabled(validate_path_is_safe(artifact_path))
        return send(handlers._get_artifact_repo_mlflow_artifacts(), path)

    views = app.view_functions
    replaced = [name for name, view in views.items() if view is handlers._download_artifact]
    for name in replaced:
        views[name] = download
    handlers._send_artifact = send
    artifact_router.artifact_router.routes.clear()
    return bool(replaced)


# Of all login modes.
PARTS = (
    Part("bodies", MLFLOW, wsgi.install, "every body would be copied to memory or disk first", required=True),
    Part("artifacts", MLFLOW, install, "every artifact would be copied to disk", required=True),
)
