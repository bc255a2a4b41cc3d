# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of a worker, which `scrape` serves for all workers.

docs/monitoring.md has a row for each, which a test compares with this module. Labels have few values, and never names
of people or of what they store. If `PROMETHEUS_MULTIPROC_DIR` is set when this module is imported, prometheus_client
writes values to files there, one for each process; else they stay in memory.
"""

import importlib.metadata
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import event
from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    import sqlalchemy
    from flask import Flask

PATH = "/metrics"

REGISTRY = CollectorRegistry()
# From a call of the API to an upload of hours.
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
QUERY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)

CALLS = Histogram(
    "mlflow_http_request_duration_seconds",
    "Time from a request to the end of its answer, without successful probes.",
    ["route", "method", "status"],
    buckets=CALL_SECONDS,
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "mlflow_http_requests_in_flight",
    "Requests that are being answered.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
RUNNING = Gauge(
    "mlflow_calls_running",
    "Calls of MLflow's API that have a thread.",
    ["lane"],
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
WAITING = Gauge(
    "mlflow_calls_waiting",
    "Calls of MLflow's API that wait for a thread.",
    ["lane"],
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
THREADS = Gauge(
    "mlflow_call_threads",
    "Threads for calls of MLflow's API: how many may run at once.",
    ["lane"],
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
WORKERS = Gauge("mlflow_workers", "Worker processes that serve.", registry=REGISTRY, multiprocess_mode="livesum")
REFUSED = Counter("mlflow_refused", "Requests that were refused, by reason.", ["reason"], registry=REGISTRY)
CLOSED = Counter(
    "mlflow_connections_closed", "Connections that the server closed, by reason.", ["reason"], registry=REGISTRY
)
QUERIES = Histogram(
    "mlflow_database_query_duration_seconds",
    "Time of a statement of SQL, without the wait for a connection.",
    ["database"],
    buckets=QUERY_SECONDS,
    registry=REGISTRY,
)
QUERY_ERRORS = Counter(
    "mlflow_database_errors",
    "Statements of SQL and connections that failed; also those that MLflow expects to fail.",
    registry=REGISTRY,
)
S3_CALLS = Histogram(
    "mlflow_s3_request_duration_seconds",
    "Time of a request to the object store with its retries; of a download, until the content begins.",
    ["operation", "result"],
    buckets=CALL_SECONDS,
    registry=REGISTRY,
)
LOGIN_CHECKS = Counter(
    "mlflow_login_checks",
    "Checks of credentials that calls came with, by whether a cache knew them.",
    ["kind", "cache"],
    registry=REGISTRY,
)
SPANS = Counter("mlflow_spans_received", "Spans of traces that were stored.", registry=REGISTRY)
SERVER_SPANS = Counter(
    "mlflow_server_spans",
    "Spans of the server's own calls: sent to the collector, or dropped.",
    ["result"],
    registry=REGISTRY,
)
AUDIT = Counter(
    "mlflow_audit_lines", "Lines of the audit log: written, or failed to be.", ["result"], registry=REGISTRY
)
OBJECTS = Gauge(
    "mlflow_objects",
    "What is stored, by kind; estimated by PostgreSQL where there is much of it.",
    ["kind"],
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
ARTIFACT_BYTES = Gauge(
    "mlflow_artifacts_bytes",
    "Size of all artifacts, when the last backup copied them.",
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
COUNTED = Gauge(
    "mlflow_objects_counted_timestamp_seconds",
    "When mlflow_objects was counted.",
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
JOBS = Gauge(
    "mlflow_job_last_success_timestamp_seconds",
    "When a Job last ended well: clean-up (gc), traces, backup, and drill as of the last backup.",
    ["job_name"],
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
WAL = Gauge(
    "mlflow_wal_archive_timestamp_seconds",
    "When PostgreSQL last archived a segment of its write-ahead log, or failed to.",
    ["result"],
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
INFO = Gauge(
    "mlflow_server_info",
    "1, with the versions and the login mode.",
    ["version", "mlflow", "login"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_BEGAN = "mlops_began"


def serving(login: str) -> None:
    """Note that this process serves, with this login mode."""
    versions = (importlib.metadata.version(name) for name in ("mlops-mlflow-server", "mlflow"))
    INFO.labels(*versions, login).set(1)
    WORKERS.inc()


def observe_call(route: str, method: str, status: int, seconds: float) -> None:
    """Count a call of a route's template; a status of 0 is that of a client that left before the answer."""
    CALLS.labels(route, method if method in METHODS else "other", f"{status // 100}xx" if status else "none").observe(
        seconds
    )


def watch_databases(tracking: str) -> None:
    """Time the statements of every SQLAlchemy engine of the process, including those created later.

    Args:
        tracking: the name of MLflow's database; any other is that of users.
    """
    children = {name: QUERIES.labels("tracking" if name == tracking else "users") for name in (tracking, None)}

    def begin(connection: "sqlalchemy.Connection", *_unused: object) -> None:
        connection.info[_BEGAN] = time.perf_counter()

    def end(connection: "sqlalchemy.Connection", *_unused: object) -> None:
        began = connection.info.pop(_BEGAN, None)
        if began is not None:
            name = connection.engine.url.database
            children.get(name, children[None]).observe(time.perf_counter() - began)

    event.listen(Engine, "before_cursor_execute", begin)
    event.listen(Engine, "after_cursor_execute", end)
    event.listen(Engine, "handle_error", lambda _context: QUERY_ERRORS.inc())


def watch_s3(client: object) -> None:
    """Time the requests of a client of boto3."""

    def begin(context: dict, **_unused: object) -> None:
        context[_BEGAN] = time.perf_counter()

    def end(context: dict, model: object, result: str) -> None:
        began = context.pop(_BEGAN, None)
        if began is not None:
            S3_CALLS.labels(model.name, result).observe(time.perf_counter() - began)  # type: ignore[attr-defined]

    events = client.meta.events  # type: ignore[attr-defined]
    operations = client.meta.service_model  # type: ignore[attr-defined]
    events.register("before-call.s3", begin)
    events.register(
        "after-call.s3",
        lambda http_response, model, context, **_unused: end(
            context, model, "ok" if http_response.status_code < 400 else f"{http_response.status_code // 100}xx"
        ),
    )
    events.register(
        "after-call-error.s3",
        lambda context, event_name, **_unused: end(
            context, operations.operation_model(event_name.rpartition(".")[2]), "no answer"
        ),
    )


def is_closed(flask: "Flask") -> bool:
    """Return whether MLflow's application serves no metrics: they tell of routes and counts without a login."""
    return not any(rule.rule.rstrip("/") == PATH for rule in flask.url_map.iter_rules())
