"""The application that `mlflow server --app-name mlops-oidc` serves: mlflow-oidc-auth's, made fit for a team."""

import logging
import os

from mlflow.server.handlers import initialize_backend_stores
from mlflow_oidc_auth.app import app as _application

from mlops_mlflow_server import auth, client_auth, lanes
from mlops_mlflow_server.drain import Draining
from mlops_mlflow_server.outage import OutageAware, Readiness, Watch

_logger = logging.getLogger("mlflow.mlops")

# Now, not at the first request; ends the process with MLflow's message if the schema is not this version's.
initialize_backend_stores(os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_BACKEND_STORE_URI"])

if not lanes.install(_application):
    _logger.warning("This mlflow-oidc-auth mounts MLflow in another way: all calls of a worker share one thread")
if not auth.install(_application):
    _logger.warning("This mlflow-oidc-auth looks users up in another way: a slow database stops a worker's event loop")
if not client_auth.install():
    _logger.warning("This authlib names its methods in another way: a client secret may hold only letters and digits")

_watch = Watch()
_watch.listen()
app = Draining(OutageAware(_application, _watch, Readiness()))
