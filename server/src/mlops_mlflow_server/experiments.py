# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let only administrators choose where an experiment stores its artifacts.

The server reads and writes artifacts with its own key. Who chooses an experiment's artifact location can thereby store
files below the location of another experiment, or in another bucket that this key opens.
`MLOPS_ARTIFACT_LOCATIONS=true` allows it to everyone. In login mode `none` nobody is an administrator.
"""

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.server import handlers

from mlops_mlflow_server import callers
from mlops_mlflow_server.settings import flag

VARIABLE = "MLOPS_ARTIFACT_LOCATIONS"
_FIELD = "artifact_location"


def install(caller: callers.Caller) -> bool:
    """Wrap MLflow's check of artifact locations; return whether this version has it."""
    validate = getattr(handlers, "_validate_storage_location_uri", None)
    if validate is None:
        return False
    allowed = flag(VARIABLE)

    def validate_storage_location_uri(value: str, field_name: str) -> str:
        if field_name == _FIELD and not allowed and not caller.is_administrator():
            raise MlflowException(
                "Only administrators choose an experiment's artifact location: leave artifact_location out",
                error_code=PERMISSION_DENIED,
            )
        return validate(value, field_name)

    handlers._validate_storage_location_uri = validate_storage_location_uri
    return True
