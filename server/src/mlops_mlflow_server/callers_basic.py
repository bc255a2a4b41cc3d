# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller of login mode `basic`, see `callers`."""

from flask import has_request_context
from mlflow.server import auth
from mlflow.server.auth import RESOURCE_TYPE_TRACE, _authorize_create_in_experiment_as, _run_requirement, authorize
from werkzeug.datastructures import Authorization

from mlops_mlflow_server import callers


class Caller:
    """The user that MLflow's basic-auth authenticated."""

    def _name(self) -> str | None:
        if has_request_context():
            known = auth.authenticate_request()
            return known.username if isinstance(known, Authorization) else None
        # MLflow's permission middleware writes it for native routes of FastAPI.
        return callers.scope().get("state", {}).get("username")

    def is_administrator(self) -> bool:
        """Return whether the user is an administrator."""
        name = self._name()
        return bool(name) and bool(auth.store.get_user(name).is_admin)

    def may_update(self, experiment_id: str) -> bool:
        """Return whether the user may change traces in this experiment."""
        name = self._name()
        if not name:
            return False
        return self.is_administrator() or _authorize_create_in_experiment_as(name, experiment_id, RESOURCE_TYPE_TRACE)

    def may_update_run(self, run_id: str) -> bool:
        """Return whether the user may change this run; false for a run that does not exist."""
        name = self._name()
        if not name:
            return False
        if self.is_administrator():
            return True
        resolved = _run_requirement(run_id, "update")
        return resolved is not None and authorize(name, *resolved)
