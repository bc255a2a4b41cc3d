# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve MLflow: `python -m mlops_mlflow_server.serve`, with options named as those of `mlflow server`.

`mlflow server` starts uvicorn as a child process and stays in memory, with all of MLflow imported, for its job runner.
Without jobs this wastes 270 MiB and doubles the start time; here one worker is one process. The databases
`MLFLOW_BACKEND_STORE_URI` and, unless `MLOPS_AUTH=none`, `OIDC_USERS_DB_URI` must have been migrated
(`python -m mlops_mlflow_server.migrate`).
"""

import argparse
import importlib.util
import logging
import os
import pathlib
import signal
import socket
import sys
import types
import uuid

import uvicorn
from uvicorn.supervisors import Multiprocess

from mlops_mlflow_server import basic_settings, drain, logs, parts, providers
from mlops_mlflow_server.settings import login

LOG_FORMAT = "%(asctime)s %(levelprefix)s %(message)s"


def names() -> types.ModuleType:
    """Return MLflow's module with the names of the variables that its launcher sets for its workers.

    It is loaded by path, since importing it by name imports the whole server before the variables are set.
    """
    package = importlib.util.find_spec("mlflow")
    if package is None or package.origin is None:
        raise ImportError("mlflow is not installed")
    path = pathlib.Path(package.origin).parent / "server" / "constants.py"
    spec = importlib.util.spec_from_file_location("mlops_mlflow_server_names", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m mlops_mlflow_server.serve", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")
    parser.add_argument("--tls-port", type=int, default=0, help="port to listen on by https (default: none)")
    parser.add_argument("--tls-folder", default="", help="folder of the certificate, as tls.crt and tls.key")
    parser.add_argument("--workers", type=int, default=1, help="number of server processes")
    parser.add_argument("--artifacts-destination", required=True, help="artifact store, such as s3://mlflow")
    parser.add_argument("--expose-prometheus", default="", help="directory for metrics (default: no metrics)")
    parser.add_argument("--metrics-port", type=int, default=0, help="port of /metrics (default: not served)")
    parser.add_argument("--allowed-hosts", default="", help="accepted Host headers, comma-separated")
    parser.add_argument("--cors-allowed-origins", default="", help="origins that may write, comma-separated")
    # Longer than the 90 s of a proxy in Go: it must not send a request on a connection that is just being closed.
    parser.add_argument("--keep-alive", type=int, default=100, help="idle timeout of connections, in seconds")
    parser.add_argument("--grace", type=int, default=30, help="seconds for running requests to finish after SIGTERM")
    return parser.parse_args(arguments)


def environment(given: argparse.Namespace) -> dict[str, str]:
    """Return the environment variables of MLflow's workers for these options."""
    name = names()
    result = {
        name.BACKEND_STORE_URI_ENV_VAR: os.environ["MLFLOW_BACKEND_STORE_URI"],
        name.REGISTRY_STORE_URI_ENV_VAR: os.environ["MLFLOW_BACKEND_STORE_URI"],
        name.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        name.SERVE_ARTIFACTS_ENV_VAR: "true",
        name.ARTIFACTS_DESTINATION_ENV_VAR: given.artifacts_destination,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    if given.tls_port:
        result.update(MLOPS_TLS_PORT=str(given.tls_port), MLOPS_TLS_FOLDER=given.tls_folder)
    # MLflow's own exporter would serve metrics to users.
    os.environ.pop(name.PROMETHEUS_EXPORTER_ENV_VAR, None)
    if given.allowed_hosts:
        result["MLFLOW_SERVER_ALLOWED_HOSTS"] = given.allowed_hosts
    if given.cors_allowed_origins:
        result["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = given.cors_allowed_origins
    return result


def log_config() -> dict:
    """Return uvicorn's logging configuration with timestamps, or as JSON."""
    text = {"()": "uvicorn.logging.DefaultFormatter", "fmt": LOG_FORMAT, "use_colors": False}
    default = {"()": "mlops_mlflow_server.logs.Json"} if logs.is_json() else text
    known = uvicorn.config.LOGGING_CONFIG
    return {**known, "formatters": {**known["formatters"], "default": default}}


def secure_socket(host: str, port: int) -> socket.socket:
    """Return a socket at the address of https, for all workers."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    logging.getLogger("uvicorn.error").info("https at port %d", port)
    return bound


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal ends it; return the exit code."""
    given = options(arguments)
    if "MLFLOW_BACKEND_STORE_URI" not in os.environ:
        print("MLFLOW_BACKEND_STORE_URI is not set", file=sys.stderr)
        return 1
    try:
        logs.is_json()
        way = login()
        warning = parts.check_versions(os.environ)
    except (ValueError, parts.MisfitError) as error:
        print(error, file=sys.stderr)
        return 1
    if way != "none" and "OIDC_USERS_DB_URI" not in os.environ:
        print("OIDC_USERS_DB_URI is not set", file=sys.stderr)
        return 1
    if warning:
        print(f"WARNING: {warning}", file=sys.stderr)
    with parts.readable():
        os.environ.update(environment(given))
    if way == "oidc":
        try:
            # mlflow-oidc-auth reads them once, at its import.
            os.environ.update(providers.environment(os.environ))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    if way == "basic":
        os.environ.update(basic_settings.write(os.environ))
    # A leftover if the container was restarted in its pod.
    pathlib.Path(drain.file()).unlink(missing_ok=True)
    if given.expose_prometheus:
        os.makedirs(given.expose_prometheus, exist_ok=True)
        # prometheus_client reads it once, at its import.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = given.expose_prometheus
        if given.metrics_port:
            from mlops_mlflow_server import scrape  # noqa: PLC0415  (see above)

            scrape.serve(given.metrics_port, given.expose_prometheus)
    misfits: list[int] = []

    def end_for_misfit(number: int, _frame: types.FrameType | None) -> None:
        misfits.append(number)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(parts.MISFIT_SIGNAL, end_for_misfit)
    config = uvicorn.Config(
        "mlops_mlflow_server.app:app",
        host=given.host,
        port=given.port,
        workers=given.workers,
        # With deadlines and a limit on connections.
        http=f"mlops_mlflow_server.{'tls:Secured' if given.tls_port else 'connections:Bounded'}",
        ws="none",
        # X-Forwarded-For is read where it is needed, of trusted proxies: see addresses.py.
        proxy_headers=False,
        timeout_keep_alive=given.keep_alive,
        timeout_graceful_shutdown=given.grace,
        # A worker's imports take seconds on a busy node; the kubelet's probes detect workers that hang.
        timeout_worker_healthcheck=60,
        log_config=log_config(),
        # `logs.Calls` writes a line for each call.
        access_log=False,
    )
    sockets = [config.bind_socket(), *([secure_socket(given.host, given.tls_port)] if given.tls_port else [])]
    if given.workers > 1:
        Multiprocess(config, sockets=sockets).run()
        return 1 if misfits else 0
    config.load_app()
    running = uvicorn.Server(config)
    running.run(sockets)
    return 1 if misfits or not running.started else 0


if __name__ == "__main__":
    sys.exit(main())
