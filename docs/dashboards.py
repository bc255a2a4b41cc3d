"""Grafana's dashboards of the stack, by its own SDK; docs/generate.py writes them to roles/mlflow/files/dashboards.

A dashboard is a list of rows, and a row a list of panels. A panel has a title, a unit, a line on what it shows, and
queries with their legends. The filter `dashboard_of_stack` sets the variables to the values of a stack.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, SortOrder, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

RUNBOOKS = "https://github.com/mlops-mlflow/mlops.mlflow/blob/main/docs/runbooks"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Grafana's grid has 24 columns.
WIDTH = 24
HEIGHT = 8
STAT_HEIGHT = 4
ALL = VariableOption(text=["All"], value=["$__all"])
MINUTE = "$__rate_interval"

# What a dashboard may choose by, and the metrics that know the values.
CHOICES = {
    "namespace": ("Namespace of MLflow", "mlflow_workers"),
    # PostgreSQL serves no metrics, and has a volume.
    "components": ("Namespaces of the stack", '{__name__=~"up|kubelet_volume_stats_capacity_bytes"}'),
    "keycloak": ("Namespace of Keycloak", 'http_server_requests_seconds_count{uri=~".*/realms/.*"}'),
    "minio": ("Namespace of MinIO", "minio_cluster_health_status"),
    "traefik": ("Namespace of Traefik", "traefik_config_reloads_total"),
}
SEVERAL = ("components",)

Query = tuple[str, str]


class Panel(NamedTuple):
    """A panel.

    Attributes:
        kind: C(graph), or C(stat) for a number.
        title: what it is.
        unit: of all its values.
        about: what it shows, in a line.
        queries: each an expression, and the legend of its series.
        runbook: a section of a runbook, such as calls.md#mlflowdown.
        red: for a number, from which value on it is red; below which, where that is negative.
        none: what a panel without data says.
    """

    kind: str
    title: str
    unit: str
    about: str
    queries: tuple[Query, ...]
    runbook: str = ""
    red: float | None = None
    none: str = ""


class Row(NamedTuple):
    """Panels below a heading."""

    title: str
    panels: list[Panel]


class Dashboard(NamedTuple):
    """A dashboard."""

    name: str
    title: str
    about: str
    choices: tuple[str, ...]
    rows: list[Row]
    since: str = "now-6h"
    refresh: str = "1m"


def graph(title: str, unit: str, about: str, *queries: Query, runbook: str = "", none: str = "") -> Panel:
    """Give a panel of lines over time."""
    return Panel("graph", title, unit, about, queries, runbook, None, none)


def number(
    title: str, unit: str, about: str, *queries: Query, runbook: str = "", red: float | None = None, none: str = ""
) -> Panel:
    """Give a panel of the newest values."""
    return Panel("stat", title, unit, about, queries, runbook, red, none)


# --- parts of queries

MLFLOW = 'namespace="$namespace"'
STACK = 'namespace=~"$components"'
KEYCLOAK = 'namespace="$keycloak"'
MINIO = 'namespace="$minio"'
TRAEFIK = 'namespace="$traefik"'
REALMS = 'uri=~".*/realms/.*"'
CALLS = "mlflow_http_request_duration_seconds"
# Uploads, downloads and traces take as long as they are large.
SHORT = 'route!~".*(artifact|trace).*"'
STATE_METRICS = "kube-state-metrics is not scraped"
KUBELET = "the kubelet is not scraped"


def rate(metric: str, *labels: str) -> str:
    """Give how much a counter grows in a second."""
    return f"rate({metric}{{{','.join(labels)}}}[{MINUTE}])"


def quantile(share: float, by: str, metric: str, *labels: str) -> str:
    """Give the time that this share of what a histogram counts takes at most."""
    names = ", ".join(filter(None, (by, "le")))
    return f"histogram_quantile({share}, sum by ({names}) ({rate(metric + '_bucket', *labels)}))"


def of_servers(by: str, expression: str) -> str:
    """Sum what MinIO tells of its servers: each pod tells of all."""
    names = ", ".join(filter(None, ("server", by)))
    return f"sum{f' by ({by})' if by else ''} (max by ({names}) ({expression}))"


def used(free: str, size: str, labels: str, by: str) -> str:
    """Give the share of a capacity that is taken."""
    return f"1 - max by ({by}) ({free}{{{labels}}}) / max by ({by}) ({size}{{{labels}}})"


def since(job: str) -> str:
    """Give the seconds since a Job ended well."""
    return f'time() - max(mlflow_job_last_success_timestamp_seconds{{{MLFLOW},job_name="{job}"}})'


VOLUMES = used(
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    STACK,
    "namespace, persistentvolumeclaim",
)
FREE = f"max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_available_bytes{{{STACK}}})"
LOSS = f"max by (namespace, persistentvolumeclaim) (-deriv(kubelet_volume_stats_available_bytes{{{STACK}}}[1d]))"
CERTIFICATES = (
    "min by (namespace, exported_namespace, name) "
    f"(certmanager_certificate_expiration_timestamp_seconds{{{STACK}}} > 0) - time()"
)
BAD = f'sum(rate({CALLS}_count{{{MLFLOW},status="5xx"}}[$__range])) or vector(0)'
GOOD = f'1 - ({BAD}) / sum(rate({CALLS}_count{{{MLFLOW},status!="none"}}[$__range]))'


# --- panels that several dashboards have

CALLS_ANSWERED = number(
    "Calls answered",
    units.PercentUnit,
    "Share of the calls in the chosen time that were not answered with an error of the server (5xx).",
    (GOOD, ""),
    runbook="calls.md#mlflowcallsfailingfast",
    red=-0.999,
    none="no calls",
)
CALL_TIME = graph(
    "Time of API calls",
    units.Seconds,
    "Time that half, 95 % and 99 % of the calls take at most, without those of artifacts and traces.",
    *((quantile(share, "", CALLS, MLFLOW, SHORT), f"{share:.0%}") for share in (0.5, 0.95, 0.99)),
    runbook="calls.md#mlflowslow",
)
THREADS = graph(
    "Threads that are taken",
    units.PercentUnit,
    "Share of the threads that calls have; at 100 % further ones wait.",
    (
        f"sum by (lane) (mlflow_calls_running{{{MLFLOW}}}) / sum by (lane) (mlflow_call_threads{{{MLFLOW}}})",
        "{{lane}}",
    ),
    runbook="calls.md#mlflowthreadsfull",
)
STATEMENT_TIME = graph(
    "Time of SQL statements",
    units.Seconds,
    "Time that 95 % of the statements take at most, by database.",
    (quantile(0.95, "database", "mlflow_database_query_duration_seconds", MLFLOW), "{{database}}"),
    runbook="dependencies.md#mlflowdatabaseslow",
)
S3_TIME = graph(
    "Time of requests to the object store",
    units.Seconds,
    "Time that 95 % of the requests take at most, by operation; of downloads, until the content begins.",
    (quantile(0.95, "operation", "mlflow_s3_request_duration_seconds", MLFLOW), "{{operation}}"),
    runbook="dependencies.md#mlflows3slow",
)
WAL_AGE = number(
    "Since the write-ahead log was archived",
    units.Seconds,
    "Time since PostgreSQL archived a segment, which it does when there are changes.",
    (f'time() - max(mlflow_wal_archive_timestamp_seconds{{{MLFLOW},result="archived"}})', ""),
    runbook="jobs.md#mlflowwalarchivefailing",
    none="no archive",
)
VOLUME_SHARE = graph(
    "Volumes that are taken",
    units.PercentUnit,
    "Share of each volume that is taken.",
    (VOLUMES, "{{namespace}}/{{persistentvolumeclaim}}"),
    runbook="cluster.md#mlflowvolumefilling",
    none=KUBELET,
)
JOBS_FAILED = graph(
    "Jobs that failed",
    units.Short,
    "Jobs of the stack's namespaces that failed and are still there.",
    (f'max by (namespace, job_name) (kube_job_failed{{{STACK},condition="true"}}) > 0', "{{namespace}}/{{job_name}}"),
    runbook="cluster.md#mlflowjobfailed",
    none="none, or kube-state-metrics is not scraped",
)

# --- the dashboards

OPERATION = Dashboard(
    "operation",
    "MLflow: operation",
    "Whether the stack is well, what is slow, and what fills.",
    ("namespace", "components"),
    [
        Row(
            "Is it well",
            [
                number(
                    "Alerts that fire",
                    units.Short,
                    "Alerts of the stack that fire now; the graph beside it names them.",
                    (
                        f'count(ALERTS{{alertname=~"MLflow.+",alertstate="firing",{STACK}}}) or vector(0)',
                        "",
                    ),
                    red=1,
                    runbook="README.md",
                ),
                CALLS_ANSWERED,
                number(
                    "Logins that work",
                    units.PercentUnit,
                    "Share of the requests of logins in the last hour without an error of the server (5xx).",
                    (f"1 - mlflow:logins_failed:ratio_rate1h{{{MLFLOW}}}", ""),
                    runbook="logins.md#mlflowloginsfailingfast",
                    red=-0.999,
                    none="no logins",
                ),
                number(
                    "Worker processes",
                    units.Short,
                    "Processes of MLflow's server that serve, of all its pods.",
                    (f"sum(mlflow_workers{{{MLFLOW}}})", ""),
                    runbook="calls.md#mlflowdown",
                    red=-1,
                ),
                number(
                    "Pods without metrics",
                    units.Short,
                    "Pods that Prometheus should read and does not reach.",
                    (f"count(up{{{STACK}}} == 0) or vector(0)", ""),
                    runbook="components.md#mlflowcomponentdown",
                    red=1,
                ),
                number(
                    "SealedSecrets that were not opened",
                    units.Short,
                    "SealedSecrets whose Secret is missing or old.",
                    (
                        "sum(min by (namespace, exported_namespace, name) "
                        '(sealed_secrets_controller_condition_info{condition="Synced"}) == bool -1)',
                        "",
                    ),
                    runbook="components.md#mlflowsealedsecretnotsynced",
                    red=1,
                    none="no SealedSecrets",
                ),
                graph(
                    "Alerts over time",
                    units.Short,
                    "Alerts that fired, by name and severity.",
                    (
                        f'count by (alertname, severity) (ALERTS{{alertname=~"MLflow.+",alertstate="firing",{STACK}}})',
                        "{{alertname}} ({{severity}})",
                    ),
                    runbook="README.md",
                    none="none",
                ),
                graph(
                    "How fast errors come",
                    units.PercentUnit,
                    "Share of calls and of logins that failed in the hour before.",
                    (f"mlflow:calls_failed:ratio_rate1h{{{MLFLOW}}}", "calls"),
                    (f"mlflow:logins_failed:ratio_rate1h{{{MLFLOW}}}", "logins"),
                    runbook="calls.md#mlflowcallsfailingfast",
                    none="no calls, or the rules of the alerts are not loaded",
                ),
            ],
        ),
        Row(
            "What is slow",
            [
                CALL_TIME,
                THREADS,
                STATEMENT_TIME,
                S3_TIME,
                graph(
                    "Time of a login's requests",
                    units.Seconds,
                    "Mean time of a request to Keycloak's realms.",
                    (
                        f"sum(rate(http_server_requests_seconds_sum{{{STACK},{REALMS}}}[{MINUTE}])) / "
                        f"sum(rate(http_server_requests_seconds_count{{{STACK},{REALMS}}}[{MINUTE}]))",
                        "mean",
                    ),
                    runbook="components.md#mlflowkeycloakslow",
                    none="no requests, or no Keycloak",
                ),
                graph(
                    "Pods that restarted",
                    units.Short,
                    "Restarts of containers within an hour.",
                    (
                        "sum by (namespace, pod, container) "
                        f"(increase(kube_pod_container_status_restarts_total{{{STACK}}}[1h])) > 0",
                        "{{namespace}}/{{pod}} {{container}}",
                    ),
                    runbook="cluster.md#mlflowpodsrestarting",
                    none="none, or kube-state-metrics is not scraped",
                ),
                graph(
                    "Pods that are not ready",
                    units.Short,
                    "Pods that Deployments and StatefulSets of the stack lack.",
                    (
                        f"max by (namespace, deployment) (kube_deployment_status_replicas_unavailable{{{STACK}}})",
                        "{{namespace}}/{{deployment}}",
                    ),
                    (
                        f"max by (namespace, statefulset) (kube_statefulset_replicas{{{STACK}}} - "
                        f"kube_statefulset_status_replicas_ready{{{STACK}}})",
                        "{{namespace}}/{{statefulset}}",
                    ),
                    runbook="cluster.md#mlflowpodsnotready",
                    none=STATE_METRICS,
                ),
                JOBS_FAILED,
            ],
        ),
        Row(
            "What fills",
            [
                VOLUME_SHARE,
                graph(
                    "Time until a volume is full",
                    units.Seconds,
                    "If it grows as in the day before; volumes that would last longer than 90 days are left out.",
                    (
                        f"{FREE} / ({LOSS} > 0) < 7776000",
                        "{{namespace}}/{{persistentvolumeclaim}}",
                    ),
                    runbook="cluster.md#mlflowvolumefullsoon",
                    none="no volume fills, or the kubelet is not scraped",
                ),
                graph(
                    "MinIO's room that is taken",
                    units.PercentUnit,
                    "Share of the capacity of MinIO that is taken.",
                    (
                        used(
                            "minio_cluster_capacity_usable_free_bytes",
                            "minio_cluster_capacity_usable_total_bytes",
                            STACK,
                            "namespace",
                        ),
                        "{{namespace}}",
                    ),
                    runbook="components.md#mlflowminiofilling",
                    none="no MinIO",
                ),
                number(
                    "Time until the next certificate ends",
                    units.Seconds,
                    "Of the certificates of cert-manager, and of those that Traefik serves.",
                    (f"min({CERTIFICATES})", "cert-manager"),
                    (
                        f"min(max by (namespace, cn, sans) (traefik_tls_certs_not_after{{{STACK},"
                        'cn!="TRAEFIK DEFAULT CERT"}) - time())',
                        "Traefik",
                    ),
                    runbook="certificates.md#mlflowcertificateexpiring",
                    red=-604800,
                    none="no cert-manager, no Traefik",
                ),
                number(
                    "Since the last backup",
                    units.Seconds,
                    "Time since a backup ended well.",
                    (since("backup"), ""),
                    runbook="jobs.md#mlflowbackuptooold",
                    none="none",
                ),
                WAL_AGE,
                number(
                    "Since MLflow's objects were counted",
                    units.Seconds,
                    "Time since the last count, which also tells when Jobs ended.",
                    (f"time() - max(mlflow_objects_counted_timestamp_seconds{{{MLFLOW}}})", ""),
                    runbook="jobs.md#mlflowcountsold",
                    red=3600,
                ),
            ],
        ),
    ],
)

SERVER = Dashboard(
    "server",
    "MLflow: server",
    "What MLflow's server does: calls, load, logins, and what it waits for.",
    ("namespace",),
    [
        Row(
            "Calls",
            [
                graph(
                    "Calls",
                    units.RequestsPerSecond,
                    "Calls by the class of their answer; none is a client that left.",
                    (f"sum by (status) ({rate(CALLS + '_count', MLFLOW)})", "{{status}}"),
                    runbook="calls.md#mlflowcallsfailingfast",
                ),
                CALL_TIME,
                graph(
                    "Slowest routes",
                    units.Seconds,
                    "The ten routes whose calls take longest: the time that 95 % take at most.",
                    (f"topk(10, {quantile(0.95, 'route', CALLS, MLFLOW)})", "{{route}}"),
                    runbook="calls.md#mlflowslow",
                ),
                graph(
                    "Busiest routes",
                    units.RequestsPerSecond,
                    "The ten routes that are called most.",
                    (f"topk(10, sum by (route) ({rate(CALLS + '_count', MLFLOW)}))", "{{route}}"),
                ),
                graph(
                    "Routes that fail",
                    units.RequestsPerSecond,
                    "Calls that were answered with an error of the server (5xx), by route.",
                    (
                        f"""sum by (route) ({rate(CALLS + "_count", MLFLOW, 'status="5xx"')}) > 0""",
                        "{{route}}",
                    ),
                    runbook="calls.md#mlflowcallsfailingfast",
                    none="none",
                ),
                graph(
                    "Time of uploads and downloads",
                    units.Seconds,
                    "Time that 95 % of the calls of artifacts take at most, by method.",
                    (quantile(0.95, "method", CALLS, MLFLOW, 'route=~".*artifact.*"'), "{{method}}"),
                    none="no artifacts in this time",
                ),
            ],
        ),
        Row(
            "Load",
            [
                THREADS,
                graph(
                    "Calls that wait for a thread",
                    units.Short,
                    "Calls that have none yet, by lane.",
                    (f"sum by (lane) (mlflow_calls_waiting{{{MLFLOW}}})", "{{lane}}"),
                    runbook="calls.md#mlflowthreadsfull",
                ),
                graph(
                    "Requests that are being answered",
                    units.Short,
                    "Requests in flight, by pod.",
                    (f"sum by (pod) (mlflow_http_requests_in_flight{{{MLFLOW}}})", "{{pod}}"),
                ),
                graph(
                    "Requests that were refused",
                    units.RequestsPerSecond,
                    "By reason; docs/monitoring.md says what each is.",
                    (f"sum by (reason) ({rate('mlflow_refused_total', MLFLOW)})", "{{reason}}"),
                    runbook="calls.md#mlflowcallsrefused",
                    none="none",
                ),
                graph(
                    "Connections that the server closed",
                    units.CountsPerSecond,
                    "By reason.",
                    (f"sum by (reason) ({rate('mlflow_connections_closed_total', MLFLOW)})", "{{reason}}"),
                    none="none",
                ),
                graph(
                    "Worker processes",
                    units.Short,
                    "Processes that serve, by pod.",
                    (f"sum by (pod) (mlflow_workers{{{MLFLOW}}})", "{{pod}}"),
                    runbook="calls.md#mlflowdown",
                ),
            ],
        ),
        Row(
            "Logins",
            [
                graph(
                    "Checks of credentials",
                    units.CountsPerSecond,
                    "Checks of what calls came with, by kind.",
                    (f"sum by (kind) ({rate('mlflow_login_checks_total', MLFLOW)})", "{{kind}}"),
                    none="none",
                ),
                graph(
                    "Checks that a cache answered",
                    units.PercentUnit,
                    "Share of the checks that needed no database and no hash, by kind.",
                    (
                        f"""sum by (kind) ({rate("mlflow_login_checks_total", MLFLOW, 'cache="hit"')}) / """
                        f"sum by (kind) ({rate('mlflow_login_checks_total', MLFLOW)})",
                        "{{kind}}",
                    ),
                    none="no checks in this time",
                ),
                graph(
                    "Logins that were refused",
                    units.RequestsPerSecond,
                    "Requests with no or wrong credentials, or too many of them, by reason.",
                    (
                        "sum by (reason) ("
                        + rate(
                            "mlflow_refused_total",
                            MLFLOW,
                            'reason=~"not authenticated|wrong credentials|logins|password checks"',
                        )
                        + ")",
                        "{{reason}}",
                    ),
                    runbook="logins.md#mlflowloginsrefused",
                    none="none",
                ),
                graph(
                    "Lines of the audit log",
                    units.CountsPerSecond,
                    "Lines that were written, and that could not be.",
                    (f"sum by (result) ({rate('mlflow_audit_lines_total', MLFLOW)})", "{{result}}"),
                    runbook="calls.md#mlflowauditlogfailing",
                    none="none",
                ),
            ],
        ),
        Row(
            "Database and object store",
            [
                graph(
                    "SQL statements",
                    units.OpsPerSecond,
                    "Statements by database.",
                    (
                        f"sum by (database) ({rate('mlflow_database_query_duration_seconds_count', MLFLOW)})",
                        "{{database}}",
                    ),
                ),
                STATEMENT_TIME,
                graph(
                    "SQL statements that failed",
                    units.PercentUnit,
                    "Share of the statements; MLflow expects a few to fail.",
                    (
                        f"sum({rate('mlflow_database_errors_total', MLFLOW)}) / "
                        f"sum({rate('mlflow_database_query_duration_seconds_count', MLFLOW)})",
                        "failed",
                    ),
                    runbook="dependencies.md#mlflowdatabaseerrors",
                ),
                graph(
                    "Requests to the object store",
                    units.RequestsPerSecond,
                    "Requests by operation.",
                    (
                        f"sum by (operation) ({rate('mlflow_s3_request_duration_seconds_count', MLFLOW)})",
                        "{{operation}}",
                    ),
                    none="none",
                ),
                S3_TIME,
                graph(
                    "Requests to the object store that failed",
                    units.RequestsPerSecond,
                    "Requests without a good answer, by result; 4xx may be what was asked about and is not there.",
                    (
                        "sum by (result) ("
                        + rate("mlflow_s3_request_duration_seconds_count", MLFLOW, 'result!="ok"')
                        + ")",
                        "{{result}}",
                    ),
                    runbook="dependencies.md#mlflows3errors",
                    none="none",
                ),
                graph(
                    "Spans of traces",
                    units.CountsPerSecond,
                    "Spans that were stored.",
                    (f"sum({rate('mlflow_spans_received_total', MLFLOW)})", "spans"),
                ),
                graph(
                    "Versions",
                    units.Short,
                    "Pods by the versions of the server package and of MLflow, and by login mode.",
                    (
                        f"count by (version, mlflow, login) (mlflow_server_info{{{MLFLOW}}})",
                        "{{version}} on MLflow {{mlflow}}, {{login}}",
                    ),
                ),
            ],
        ),
    ],
)

KINDS = ("users", "experiments", "runs", "registered models", "model versions", "traces")
OBJECTS = f"max by (kind) (mlflow_objects{{{MLFLOW}}})"
ARTIFACTS = f"max(mlflow_artifacts_bytes{{{MLFLOW}}})"
BUCKETS = f"max by (namespace) (minio_cluster_usage_total_bytes{{{STACK}}})"

GROWTH = Dashboard(
    "growth",
    "MLflow: growth",
    "Who uses the stack how much, and what it stores, for those who plan and pay.",
    ("namespace", "components"),
    [
        Row(
            "What there is",
            [
                *(
                    number(
                        kind.capitalize(),
                        units.Short,
                        f"How many {kind} are stored; more than 100,000 are an estimate.",
                        (f'max(mlflow_objects{{{MLFLOW},kind="{kind}"}})', ""),
                        none="not counted yet",
                    )
                    for kind in KINDS
                ),
                graph(
                    "What is stored",
                    units.Short,
                    "Objects by kind.",
                    (OBJECTS, "{{kind}}"),
                ),
                graph(
                    "Growth in a day",
                    units.Short,
                    "How many objects more there are than a day before, by kind.",
                    (f"{OBJECTS} - max by (kind) (mlflow_objects{{{MLFLOW}}} offset 1d)", "{{kind}}"),
                    none="known a day from now",
                ),
                graph(
                    "Growth in 30 days",
                    units.Short,
                    "How many objects more there are than 30 days before, by kind.",
                    (f"{OBJECTS} - max by (kind) (mlflow_objects{{{MLFLOW}}} offset 30d)", "{{kind}}"),
                    none="known after 30 days, if Prometheus keeps them",
                ),
            ],
        ),
        Row(
            "Storage",
            [
                number(
                    "Artifacts",
                    units.BytesIEC,
                    "Size of all artifacts when the last backup copied them.",
                    (ARTIFACTS, ""),
                    none="no backup",
                ),
                number(
                    "Objects in MinIO",
                    units.BytesIEC,
                    "Size of all buckets, as MinIO last scanned them.",
                    (f"max(minio_cluster_usage_total_bytes{{{STACK}}})", ""),
                    none="no MinIO",
                ),
                number(
                    "Room in MinIO",
                    units.BytesIEC,
                    "What MinIO can still take.",
                    (f"max(minio_cluster_capacity_usable_free_bytes{{{STACK}}})", ""),
                    runbook="components.md#mlflowminiofilling",
                    none="no MinIO",
                ),
                graph(
                    "Artifacts and buckets",
                    units.BytesIEC,
                    "Size of artifacts by the last backup, and of all buckets by MinIO.",
                    (ARTIFACTS, "artifacts"),
                    (BUCKETS, "buckets in {{namespace}}"),
                    none="no backup, no MinIO",
                ),
                graph(
                    "Growth of buckets in 30 days",
                    units.BytesIEC,
                    "How much larger all buckets are than 30 days before.",
                    (
                        f"{BUCKETS} - max by (namespace) (minio_cluster_usage_total_bytes{{{STACK}}} offset 30d)",
                        "{{namespace}}",
                    ),
                    none="known after 30 days, if Prometheus keeps them",
                ),
                graph(
                    "Volumes",
                    units.BytesIEC,
                    "What is taken of each volume.",
                    (
                        "max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes"
                        f"{{{STACK}}}) - {FREE}",
                        "{{namespace}}/{{persistentvolumeclaim}}",
                    ),
                    runbook="cluster.md#mlflowvolumefilling",
                    none=KUBELET,
                ),
            ],
        ),
        Row(
            "Use",
            [
                graph(
                    "Calls in a day",
                    units.Short,
                    "Calls in the 24 hours before.",
                    (f"sum(increase({CALLS}_count{{{MLFLOW}}}[1d]))", "calls"),
                ),
                graph(
                    "Calls answered in a day",
                    units.PercentUnit,
                    "Share of the calls in the 24 hours before that had no error of the server.",
                    (
                        f'1 - (sum(increase({CALLS}_count{{{MLFLOW},status="5xx"}}[1d])) or vector(0)) / '
                        f'sum(increase({CALLS}_count{{{MLFLOW},status!="none"}}[1d]))',
                        "answered",
                    ),
                    runbook="calls.md#mlflowcallsfailingslowly",
                ),
                graph(
                    "How calls log in",
                    units.Short,
                    "Checks of credentials in the 24 hours before, by kind.",
                    (f"sum by (kind) (increase(mlflow_login_checks_total{{{MLFLOW}}}[1d]))", "{{kind}}"),
                    none="none",
                ),
                graph(
                    "Spans in a day",
                    units.Short,
                    "Spans of traces that were stored in the 24 hours before.",
                    (f"sum(increase(mlflow_spans_received_total{{{MLFLOW}}}[1d]))", "spans"),
                ),
            ],
        ),
    ],
    since="now-90d",
    refresh="1h",
)

BACKUPS = Dashboard(
    "backups",
    "MLflow: backups",
    "Whether backups, drills and clean-up happen, and what they hold.",
    ("namespace", "components"),
    [
        Row(
            "Now",
            [
                *(
                    number(
                        f"Since the last {what}",
                        units.Seconds,
                        f"Time since {about} ended well.",
                        (since(job), ""),
                        runbook=f"jobs.md#{alert}",
                        none="none",
                    )
                    for job, what, about, alert in (
                        ("backup", "backup", "a backup", "mlflowbackuptooold"),
                        ("drill", "drill", "the drill of a restore, as the last backup found it,", "mlflowdrilltooold"),
                        ("gc", "clean-up", "the clean-up of what was deleted", "mlflowcleanuptooold"),
                        ("traces", "archival of traces", "the archival or deletion of traces", "mlflowtracestooold"),
                    )
                ),
                WAL_AGE,
                number(
                    "Artifacts in the last backup",
                    units.BytesIEC,
                    "Size of the artifacts that the last backup copied.",
                    (ARTIFACTS, ""),
                    none="no backup",
                ),
            ],
        ),
        Row(
            "Over time",
            [
                graph(
                    "Age of the last good Job",
                    units.Seconds,
                    "A line that falls is a Job that ended well.",
                    (
                        f"time() - max by (job_name) (mlflow_job_last_success_timestamp_seconds{{{MLFLOW}}})",
                        "{{job_name}}",
                    ),
                    runbook="jobs.md#mlflowbackuptooold",
                    none="none yet",
                ),
                graph(
                    "Age of the last segment",
                    units.Seconds,
                    "Time since PostgreSQL archived a segment of its write-ahead log, and since it could not.",
                    (
                        f"time() - max by (result) (mlflow_wal_archive_timestamp_seconds{{{MLFLOW}}})",
                        "{{result}}",
                    ),
                    runbook="jobs.md#mlflowwalarchivefailing",
                    none="no archive",
                ),
                graph(
                    "Jobs that ended well in a day",
                    units.Short,
                    "How often a Job ended well in the 24 hours before.",
                    (
                        f"max by (job_name) (changes(mlflow_job_last_success_timestamp_seconds{{{MLFLOW}}}[1d]))",
                        "{{job_name}}",
                    ),
                    runbook="jobs.md#mlflowjobnever",
                    none="none yet",
                ),
                graph(
                    "Artifacts",
                    units.BytesIEC,
                    "Size of the artifacts that each backup copied.",
                    (ARTIFACTS, "artifacts"),
                    none="no backup",
                ),
                JOBS_FAILED,
                VOLUME_SHARE,
            ],
        ),
    ],
    since="now-30d",
    refresh="5m",
)

MINIO_BOARD = Dashboard(
    "minio",
    "MLflow: MinIO",
    "The object store: its health, its room and its requests.",
    ("minio",),
    [
        Row(
            "Health and room",
            [
                number(
                    "Can write",
                    units.Short,
                    "1 where enough drives are there, or 0.",
                    (f"min(minio_cluster_health_status{{{MINIO}}})", ""),
                    runbook="components.md#mlflowminiounhealthy",
                    red=-1,
                ),
                number(
                    "Drives and servers that are offline",
                    units.Short,
                    "Of all that MinIO has.",
                    (f"max(minio_cluster_drive_offline_total{{{MINIO}}})", "drives"),
                    (f"max(minio_cluster_nodes_offline_total{{{MINIO}}})", "servers"),
                    runbook="components.md#mlflowminiodrivesoffline",
                    red=1,
                ),
                number(
                    "Room that is taken",
                    units.PercentUnit,
                    "Share of the usable capacity.",
                    (
                        f"1 - max(minio_cluster_capacity_usable_free_bytes{{{MINIO}}}) / "
                        f"max(minio_cluster_capacity_usable_total_bytes{{{MINIO}}})",
                        "",
                    ),
                    runbook="components.md#mlflowminiofilling",
                    red=0.85,
                ),
                number(
                    "Objects",
                    units.Short,
                    "Objects of all buckets, and versions of these, as MinIO last scanned them.",
                    (f"max(minio_cluster_usage_object_total{{{MINIO}}})", "objects"),
                    (f"max(minio_cluster_usage_version_total{{{MINIO}}})", "versions"),
                    none="not scanned yet",
                ),
                graph(
                    "Room",
                    units.BytesIEC,
                    "Usable capacity, what is free of it, and the size of all buckets.",
                    (f"max(minio_cluster_capacity_usable_total_bytes{{{MINIO}}})", "capacity"),
                    (f"max(minio_cluster_capacity_usable_free_bytes{{{MINIO}}})", "free"),
                    (f"max(minio_cluster_usage_total_bytes{{{MINIO}}})", "buckets"),
                    runbook="components.md#mlflowminiofilling",
                ),
                graph(
                    "Versions and delete markers",
                    units.Short,
                    "What there is beside objects, where a bucket keeps versions.",
                    (f"max(minio_cluster_usage_version_total{{{MINIO}}})", "versions"),
                    (f"max(minio_cluster_usage_deletemarker_total{{{MINIO}}})", "delete markers"),
                    none="not scanned yet",
                ),
            ],
        ),
        Row(
            "Requests",
            [
                graph(
                    "Requests",
                    units.RequestsPerSecond,
                    "Requests of S3's API by operation.",
                    (of_servers("api", rate("minio_s3_requests_total", MINIO)), "{{api}}"),
                ),
                graph(
                    "Time to the first byte",
                    units.Seconds,
                    "Time that 95 % of the requests take at most until their answer begins, by operation.",
                    (
                        "histogram_quantile(0.95, "
                        + of_servers("api, le", rate("minio_s3_requests_ttfb_seconds_distribution", MINIO))
                        + ")",
                        "{{api}}",
                    ),
                    runbook="dependencies.md#mlflows3slow",
                ),
                graph(
                    "Requests that failed",
                    units.RequestsPerSecond,
                    "Answers with an error, of the server's or of the client's fault, by operation.",
                    (of_servers("api", rate("minio_s3_requests_errors_total", MINIO)), "{{api}}"),
                    runbook="dependencies.md#mlflows3errors",
                    none="none",
                ),
                graph(
                    "Requests that run and wait",
                    units.Short,
                    "Requests in flight, and those that wait for their turn.",
                    (of_servers("", f"sum by (server, pod) (minio_s3_requests_inflight_total{{{MINIO}}})"), "run"),
                    (of_servers("", f"minio_s3_requests_waiting_total{{{MINIO}}}"), "wait"),
                ),
                graph(
                    "Traffic",
                    units.BytesPerSecondIEC,
                    "What clients send, and what they get.",
                    (of_servers("", rate("minio_s3_traffic_received_bytes", MINIO)), "received"),
                    (of_servers("", rate("minio_s3_traffic_sent_bytes", MINIO)), "sent"),
                ),
                graph(
                    "Requests with wrong credentials",
                    units.RequestsPerSecond,
                    "Requests that were rejected since their signature or key is wrong.",
                    (of_servers("", rate("minio_s3_requests_rejected_auth_total", MINIO)), "rejected"),
                ),
            ],
        ),
        Row(
            "Servers",
            [
                graph(
                    "Memory",
                    units.BytesIEC,
                    "Memory of the process, by server.",
                    (f"max by (server) (minio_node_process_resident_memory_bytes{{{MINIO}}})", "{{server}}"),
                ),
                graph(
                    "CPU",
                    units.Short,
                    "CPUs that the process uses, by server.",
                    (f"max by (server) ({rate('minio_node_process_cpu_total_seconds', MINIO)})", "{{server}}"),
                ),
            ],
        ),
    ],
)

KEYCLOAK_BOARD = Dashboard(
    "keycloak",
    "MLflow: Keycloak",
    "The identity provider: logins, their time, and its load.",
    ("keycloak",),
    [
        Row(
            "Logins",
            [
                graph(
                    "Requests of logins",
                    units.RequestsPerSecond,
                    "Requests to the realms, by outcome; a wrong password is CLIENT_ERROR.",
                    (
                        f"sum by (outcome) ({rate('http_server_requests_seconds_count', KEYCLOAK, REALMS)})",
                        "{{outcome}}",
                    ),
                    runbook="logins.md#mlflowloginsfailingfast",
                    none="none yet",
                ),
                graph(
                    "Time of a login's requests",
                    units.Seconds,
                    "Mean time of the ten slowest kinds of request.",
                    (
                        f"topk(10, sum by (uri) ({rate('http_server_requests_seconds_sum', KEYCLOAK, REALMS)}) / "
                        f"sum by (uri) ({rate('http_server_requests_seconds_count', KEYCLOAK, REALMS)}))",
                        "{{uri}}",
                    ),
                    runbook="components.md#mlflowkeycloakslow",
                    none="none in this time",
                ),
                graph(
                    "Tokens that were asked for",
                    units.RequestsPerSecond,
                    "Requests for tokens, by status: each login of a user or a program is one, and each renewal.",
                    (
                        "sum by (status) ("
                        + rate("http_server_requests_seconds_count", KEYCLOAK, 'uri=~".*/realms/.*/token"')
                        + ")",
                        "{{status}}",
                    ),
                    runbook="logins.md#mlflowloginsrefused",
                    none="none yet",
                ),
                graph(
                    "Checks of passwords",
                    units.CountsPerSecond,
                    "Passwords that were right and wrong.",
                    (
                        "sum by (outcome) ("
                        + rate("keycloak_credentials_password_hashing_validations_total", KEYCLOAK)
                        + ")",
                        "{{outcome}}",
                    ),
                    none="none yet",
                ),
            ],
        ),
        Row(
            "Load",
            [
                graph(
                    "Requests that are being answered",
                    units.Short,
                    "Requests in flight, by pod.",
                    (f"sum by (pod) (http_server_active_requests{{{KEYCLOAK}}})", "{{pod}}"),
                ),
                graph(
                    "CPU",
                    units.PercentUnit,
                    "Share of the CPUs that the process sees, by pod.",
                    (f"max by (pod) (process_cpu_usage{{{KEYCLOAK}}})", "{{pod}}"),
                    runbook="components.md#mlflowkeycloakslow",
                ),
                graph(
                    "Heap",
                    units.PercentUnit,
                    "Share of the heap's largest size that is taken, by pod.",
                    (
                        f'sum by (pod) (jvm_memory_used_bytes{{{KEYCLOAK},area="heap"}}) / '
                        f'sum by (pod) (jvm_memory_max_bytes{{{KEYCLOAK},area="heap"}} > 0)',
                        "{{pod}}",
                    ),
                ),
                graph(
                    "Garbage collection",
                    units.PercentUnit,
                    "Share of the time that goes into it, by pod.",
                    (f"max by (pod) (jvm_gc_overhead{{{KEYCLOAK}}})", "{{pod}}"),
                ),
                graph(
                    "Connections to the database",
                    units.Short,
                    "Connections in use and free, and threads that wait for one.",
                    (f"sum(agroal_active_count{{{KEYCLOAK}}})", "in use"),
                    (f"sum(agroal_available_count{{{KEYCLOAK}}})", "free"),
                    (f"sum(agroal_awaiting_count{{{KEYCLOAK}}})", "waiting threads"),
                    runbook="components.md#mlflowkeycloakslow",
                ),
                graph(
                    "Servers that see each other",
                    units.Short,
                    "Size of the cluster, by pod; less than keycloak_replicas is a server that lost the others.",
                    (f"max by (pod) (vendor_cluster_size{{{KEYCLOAK}}})", "{{pod}}"),
                    none="a single server",
                ),
            ],
        ),
    ],
)

EDGE = Dashboard(
    "edge",
    "MLflow: edge",
    "Traefik's requests and certificates.",
    ("traefik", "components"),
    [
        Row(
            "Requests",
            [
                graph(
                    "Requests",
                    units.RequestsPerSecond,
                    "Requests by their status.",
                    (f"sum by (code) ({rate('traefik_entrypoint_requests_total', TRAEFIK)})", "{{code}}"),
                    none="none yet",
                ),
                graph(
                    "Requests that failed",
                    units.PercentUnit,
                    "Share of the requests with an error of the server (5xx), by service.",
                    (
                        f"""sum by (service) ({rate("traefik_service_requests_total", TRAEFIK, 'code=~"5.."')}) / """
                        f"sum by (service) ({rate('traefik_service_requests_total', TRAEFIK)})",
                        "{{service}}",
                    ),
                    runbook="components.md#mlflowtraefikerrors",
                    none="none",
                ),
                graph(
                    "Time of requests",
                    units.Seconds,
                    "Time that 95 % of the requests take at most, by service; Traefik counts up to 5 s.",
                    (quantile(0.95, "service", "traefik_service_request_duration_seconds", TRAEFIK), "{{service}}"),
                    runbook="calls.md#mlflowslow",
                    none="none yet",
                ),
                graph(
                    "Traffic",
                    units.BytesPerSecondIEC,
                    "What clients send, and what they get.",
                    (f"sum({rate('traefik_entrypoint_requests_bytes_total', TRAEFIK)})", "received"),
                    (f"sum({rate('traefik_entrypoint_responses_bytes_total', TRAEFIK)})", "sent"),
                    none="none yet",
                ),
                graph(
                    "Open connections",
                    units.Short,
                    "By entry point.",
                    (f"sum by (entrypoint) (traefik_open_connections{{{TRAEFIK}}})", "{{entrypoint}}"),
                ),
            ],
        ),
        Row(
            "Certificates",
            [
                graph(
                    "Time until Traefik's certificates end",
                    units.Seconds,
                    "By the names that they are for.",
                    (
                        f'max by (cn, sans) (traefik_tls_certs_not_after{{{TRAEFIK},cn!="TRAEFIK DEFAULT CERT"}})'
                        " - time()",
                        "{{sans}}",
                    ),
                    runbook="certificates.md#mlflowedgecertificateexpiring",
                    none="none",
                ),
                graph(
                    "Time until cert-manager's certificates end",
                    units.Seconds,
                    "Of the stack's namespaces.",
                    (CERTIFICATES, "{{namespace}}/{{name}}"),
                    runbook="certificates.md#mlflowcertificateexpiring",
                    none="no cert-manager",
                ),
                graph(
                    "Certificates that are not ready",
                    units.Short,
                    "Certificates that cert-manager could not make or renew.",
                    (
                        "min by (namespace, exported_namespace, name) "
                        f'(certmanager_certificate_ready_status{{{STACK},condition="True"}}) == bool 0',
                        "{{namespace}}/{{name}}",
                    ),
                    runbook="certificates.md#mlflowcertificatenotready",
                    none="no cert-manager",
                ),
            ],
        ),
    ],
)

DASHBOARDS = (OPERATION, SERVER, GROWTH, BACKUPS, MINIO_BOARD, KEYCLOAK_BOARD, EDGE)


# --- as Grafana reads them


def variables(choices: tuple[str, ...]) -> list:
    """Give the variables of a dashboard."""
    runbooks = dashboard.ConstantVariable("runbooks").value(RUNBOOKS)
    found = [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
    ]
    for name in choices:
        label, metric = CHOICES[name]
        variable = (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query(f"label_values({metric}, namespace)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
        if name in SEVERAL:
            variable = variable.multi(True).include_all(True).current(ALL)
        found.append(variable)
    return [*found, runbooks]


def thresholds(red: float | None) -> dashboard.ThresholdsConfig:
    """Give the colours of a number."""
    steps = [Threshold(value=None, color="green")]
    if red is not None:
        first, second = ("red", "green") if red < 0 else ("green", "red")
        steps = [Threshold(value=None, color=first), Threshold(value=abs(red), color=second)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def built(panel: Panel, place: int, width: int) -> dashboard.Panel:
    """Give a panel as the SDK has it."""
    if panel.kind == "stat":
        made = stat.Panel().height(STAT_HEIGHT).thresholds(thresholds(panel.red))
        made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        tip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        made = (
            timeseries.Panel()
            .height(HEIGHT)
            .fill_opacity(10)
            .axis_soft_min(0)
            .legend(legend.show_legend(True))
            .tooltip(tip)
        )
    made = made.id(place).title(panel.title).description(panel.about).unit(panel.unit).span(width).datasource(SOURCE)
    if panel.none:
        made = made.no_value(panel.none)
    if panel.runbook:
        link = dashboard.DashboardLink("Runbook").type(DashboardLinkType.LINK).target_blank(True)
        made = made.links([link.url(f"${{runbooks}}/{panel.runbook}")])
    for letter, (expression, legend_format) in zip("ABCD", panel.queries, strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expression).datasource(SOURCE)
        query = query.instant() if panel.kind == "stat" else query.range()
        made = made.with_target(query.legend_format(legend_format))
    return made


def text(board: Dashboard) -> str:
    """Give a dashboard as JSON."""
    others = dashboard.DashboardLink("MLflow").type(DashboardLinkType.DASHBOARDS).tags(["mlflow"])
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"mlflow-{board.name}")
        .description(board.about)
        .tags(["mlflow"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(board.since, "now")
        .refresh(board.refresh)
        .timezone("browser")
        .variables(variables(board.choices))
        .link(others.as_dropdown(True).keep_time(True).include_vars(True))
    )
    place = 0
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title))
        numbers = [each for each in row.panels if each.kind == "stat"]
        graphs = [each for each in row.panels if each.kind != "stat"]
        for panels, most in ((numbers, 6), (graphs, 3)):
            for first in range(0, len(panels), most):
                line = panels[first : first + most]
                width = WIDTH // len(line)
                for column, each in enumerate(line, 1):
                    place += 1
                    # The last one takes what is left, since a line of less than 24 columns would go on with the next.
                    rest = WIDTH - width * (len(line) - 1)
                    made = made.with_panel(built(each, place, width if column < len(line) else rest))
    return json.dumps(json.loads(JSONEncoder().encode(made.build())), indent=1, sort_keys=True) + "\n"


def files() -> dict[str, str]:
    """Give the dashboards by the names of their files."""
    return {f"{each.name}.json": text(each) for each in DASHBOARDS}
