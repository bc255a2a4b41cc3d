# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller of login mode `oidc`, see `callers`."""

from mlflow.exceptions import MlflowException
from mlflow.server.handlers import _get_tracking_store
from mlflow_oidc_auth.bridge.user import get_auth_context, set_auth_context
from mlflow_oidc_auth.entities.auth_context import AUTH_CONTEXT_KEY, AuthContext
from mlflow_oidc_auth.utils import effective_experiment_permission, get_run_experiment_id

from mlops_mlflow_server import callers


class Caller:
    """The user that mlflow-oidc-auth's AuthMiddleware authenticated."""

    def _context(self) -> AuthContext | None:
        # mlflow-oidc-auth knows it in Flask only; native routes of FastAPI have it in their scope.
        known = callers.scope().get(AUTH_CONTEXT_KEY)
        if isinstance(known, AuthContext):
            set_auth_context(known)
            return known
        try:
            return get_auth_context()
        except Exception:  # a plain Exception is what it raises outside of a call
            return None

    def is_administrator(self) -> bool:
        """Return whether the user is an administrator."""
        known = self._context()
        return known is not None and known.is_admin is True

    def may_update(self, experiment_id: str) -> bool:
        """Return whether the user may change what is in this experiment."""
        known = self._context()
        if known is None or not known.username:
            return False
        return known.is_admin is True or bool(
            effective_experiment_permission(experiment_id, known.username).permission.can_update
        )

    def may_update_run(self, run_id: str) -> bool:
        """Return whether the user may change this run; false for a run that does not exist."""
        try:
            experiment_id = get_run_experiment_id(_get_tracking_store(), run_id)
        except MlflowException:
            return False
        return self.may_update(experiment_id)
