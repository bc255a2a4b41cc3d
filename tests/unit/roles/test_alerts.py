"""Alerts fire when they should, stay quiet otherwise, and lead to a runbook; promtool evaluates them."""

import functools
import json
import pathlib
import re

import ansiblelint
import jsonschema
import pytest
import yaml

from tests.lib import REPOSITORY, promtool, rendering
from tests.lib.options import BACKUP

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
# A stack with all components, so with all alerts.
EVERYTHING = BACKUP | {
    "mlflow_image": "localhost/mlflow:1",
    "platform_components": [*rendering.COMPONENTS],
    "platform_monitoring": "operator",
    "platform_tls": "cert_manager",
    "platform_tls_issuer": {"name": "company"},
    "mlflow_url": "https://mlflow.example.com",
    "keycloak_url": "https://login.example.com",
    "mlflow_gc_older_than": "30d",
    "mlflow_traces_archive_older_than": "30d",
}
PROXY = {"mlflow_auth": "oauth2_proxy"}
HOUR = 3600


@functools.cache
def get_role():
    """Role mlflow, loaded once."""
    return rendering.Role("mlflow")


def alerts_file(**options):
    """The file for a Prometheus without its operator."""
    return written(json.dumps(options))


@functools.cache
def written(text):
    """The same, by options as JSON."""
    options = json.loads(text)
    return get_role().value("lookup('ansible.builtin.template', 'mlflow-alerts.j2')", EVERYTHING | options)


def rules(**options):
    """All rules of a stack."""
    return [rule for group in yaml.safe_load(alerts_file(**options))["groups"] for rule in group["rules"]]


def alerts(**options):
    """All alerts of a stack."""
    return [rule for rule in rules(**options) if "alert" in rule]


def mlflow(name, /, **labels):
    """A series of MLflow's server."""
    return series(name, namespace="mlflow", pod="mlflow-1", **labels)


def series(metric, /, **labels):
    """A series as promtool writes it."""
    return metric + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


CALLS = "mlflow_http_request_duration_seconds_count"
GOOD, BAD = (mlflow(CALLS, route="/api", method="GET", status=status) for status in ("2xx", "5xx"))
CALLBACK = mlflow(CALLS, route="/callback", method="GET", status="5xx")
TOKEN = "/realms/{realm}/protocol/{protocol}/token"
LOGIN, FAILED = (
    series("http_server_requests_seconds_count", namespace="keycloak", uri=TOKEN, outcome=outcome)
    for outcome in ("SUCCESS", "SERVER_ERROR")
)
SPENT = series("http_server_requests_seconds_sum", namespace="keycloak", uri=TOKEN, outcome="SUCCESS")
BUCKETS = "mlflow_http_request_duration_seconds_bucket"
RUNNING, WAITING, THREADS = (
    mlflow(f"mlflow_{name}", lane="others") for name in ("calls_running", "calls_waiting", "call_threads")
)
COUNTED = mlflow("mlflow_objects_counted_timestamp_seconds")
VOLUME = {"namespace": "postgres", "persistentvolumeclaim": "postgres-data"}
FREE, SIZE = (series(f"kubelet_volume_stats_{name}_bytes", **VOLUME) for name in ("available", "capacity"))


def slow(name, seconds, **labels):
    """A histogram whose observations all take between a tenth of this time and this time."""
    return {
        mlflow(name, le=str(seconds / 10), **labels): "0x90",
        mlflow(name, le=str(seconds), **labels): "0+60x90",
        mlflow(name, le="+Inf", **labels): "0+60x90",
    }


def job(name):
    """When a Job ended last."""
    return mlflow("mlflow_job_last_success_timestamp_seconds", job_name=name)


def refused(reason):
    """Requests that were refused for a reason."""
    return mlflow("mlflow_refused_total", reason=reason)


def s3(result):
    """Requests to the object store."""
    return mlflow("mlflow_s3_request_duration_seconds_count", operation="PutObject", result=result)


def wal(result):
    """When a segment was archived, or was not."""
    return mlflow("mlflow_wal_archive_timestamp_seconds", result=result)


def deployed(available):
    """A Deployment of which so many pods are missing."""
    return {series("kube_deployment_status_replicas_unavailable", namespace="mlflow", deployment="mlflow"): available}


def certificate(name, **labels):
    """A metric of a Certificate, as a PodMonitor keeps its labels."""
    return series(name, name="keycloak-tls", **({"namespace": "keycloak"} | labels))


def up(value, namespace="keycloak", pod="keycloak-0"):
    """Whether a pod was scraped."""
    return {series("up", namespace=namespace, pod=pod): value}


def everyone():
    """All targets are scraped."""
    return {
        series("up", namespace=name, pod=f"{name}-0"): "1x60"
        for name in ("sealed-secrets", "minio", "keycloak", "traefik", "cert-manager")
    }


READY = "certmanager_certificate_ready_status"
ENDS = "certmanager_certificate_expiration_timestamp_seconds"
EDGE = series("traefik_tls_certs_not_after", namespace="traefik", cn="m", sans="m.example.com", serial="1")
OWN = series("traefik_tls_certs_not_after", namespace="traefik", cn="TRAEFIK DEFAULT CERT", sans="x", serial="2")
UNSEALED = "sealed_secrets_controller_unseal_errors_total"
SYNCED = "sealed_secrets_controller_condition_info"
HEALTH = series("minio_cluster_health_status", namespace="minio")
DRIVES, NODES = (series(f"minio_cluster_{name}_offline_total", namespace="minio") for name in ("drive", "nodes"))
MINIO_FREE, MINIO_SIZE = (
    series(f"minio_cluster_capacity_usable_{name}_bytes", namespace="minio") for name in ("free", "total")
)
EDGE_GOOD, EDGE_BAD = (
    series("traefik_entrypoint_requests_total", namespace="traefik", entrypoint="websecure", code=code)
    for code in ("200", "502")
)
FAILED_JOB = "kube_job_failed"
RESTARTS = series("kube_pod_container_status_restarts_total", namespace="minio", pod="minio-0", container="minio")
DAYS = 24 * HOUR

# By alert: after how much time, with samples how far apart, which series have it fire, and with which it stays quiet.
CASES = {
    "MLflowCallsFailingFast": (
        "100m",
        "1m",
        [{GOOD: "0+100x120", BAD: "0+4x120"}],
        # Rarely, a few in all, and over.
        [
            {GOOD: "0+1000x120", BAD: "0+1x120"},
            {GOOD: "0+1x120", BAD: "0+0.05x120"},
            {GOOD: "0+100x120", BAD: "0+20x60 1200x60"},
        ],
    ),
    "MLflowCallsFailingSlowly": (
        "30h",
        "10m",
        [{GOOD: "0+1000x200", BAD: "0+5x200"}],
        [{GOOD: "0+10000x200", BAD: "0+5x200"}, {GOOD: "0+5x200", BAD: "0+0.03x200"}],
    ),
    "MLflowLoginsFailingFast": (
        "80m",
        "1m",
        [{LOGIN: "0+100x90", FAILED: "0+4x90"}, {LOGIN: "0+100x90", CALLBACK: "0+4x90"}, {CALLBACK: "0+1x90"}],
        [{LOGIN: "0+1000x90", FAILED: "0+1x90"}, {LOGIN: "0+100x90", BAD: "0+50x90"}, {}],
    ),
    "MLflowLoginsFailingSlowly": (
        "30h",
        "10m",
        [{LOGIN: "0+1000x200", FAILED: "0+5x200"}],
        [{LOGIN: "0+10000x200", FAILED: "0+5x200"}, {}],
    ),
    "MLflowDown": (
        "10m",
        "1m",
        [{}, {mlflow("mlflow_workers"): "0x20"}, {series("mlflow_workers", namespace="other"): "1x20"}],
        [{mlflow("mlflow_workers"): "1x20"}, {mlflow("mlflow_workers"): "1x3 _x3 1x20"}],
    ),
    "MLflowSlow": (
        "60m",
        "1m",
        [slow(BUCKETS, 10, route="/api/2.0/mlflow/runs/search")],
        [slow(BUCKETS, 1, route="/api"), slow(BUCKETS, 10, route="/api/2.0/mlflow-artifacts/artifacts/<path>"), {}],
    ),
    "MLflowThreadsFull": (
        "20m",
        "1m",
        [{RUNNING: "8x30", WAITING: "2x30", THREADS: "8x30"}],
        [{RUNNING: "8x30", WAITING: "0x30", THREADS: "8x30"}, {RUNNING: "4x30", WAITING: "1x30", THREADS: "8x30"}],
    ),
    "MLflowCallsRefused": (
        "60m",
        "1m",
        [{refused(reason): "0+10x90"} for reason in ("requests", "memory", "calls of account", "password checks")],
        [{refused("requests"): "0+1x90"}, {refused("upgrade"): "0+100x90"}, {refused("not allowed"): "0+100x90"}],
    ),
    "MLflowLoginsRefused": (
        "30m",
        "1m",
        [{refused("wrong credentials"): "0+10x40"}, {refused("logins"): "0+10x40"}],
        [{refused("wrong credentials"): "0+1x40"}, {refused("not authenticated"): "0+100x40"}],
    ),
    "MLflowAuditLogFailing": (
        "10m",
        "1m",
        [{mlflow("mlflow_audit_lines_total", result="failed"): "0+1x20"}],
        [
            {mlflow("mlflow_audit_lines_total", result="failed"): "5x20"},
            {mlflow("mlflow_audit_lines_total", result="written"): "0+9x20"},
        ],
    ),
    "MLflowDatabaseUnavailable": (
        "10m",
        "1m",
        [{refused("database"): "0+1x20"}],
        [{refused("database"): "7x20"}, {refused("audit log"): "0+1x20"}],
    ),
    "MLflowDatabaseErrors": (
        "40m",
        "1m",
        [
            {
                mlflow("mlflow_database_errors_total"): "0+10x60",
                mlflow("mlflow_database_query_duration_seconds_count", database="users"): "0+100x60",
            }
        ],
        [
            {
                mlflow("mlflow_database_errors_total"): "0+1x60",
                mlflow("mlflow_database_query_duration_seconds_count", database="users"): "0+100x60",
            }
        ],
    ),
    "MLflowDatabaseSlow": (
        "60m",
        "1m",
        [slow("mlflow_database_query_duration_seconds_bucket", 1, database="tracking")],
        [slow("mlflow_database_query_duration_seconds_bucket", 0.1, database="tracking")],
    ),
    "MLflowS3Errors": (
        "40m",
        "1m",
        [{s3("ok"): "0+90x60", s3("5xx"): "0+10x60"}, {s3("no answer"): "0+1x60"}],
        [{s3("ok"): "0+990x60", s3("5xx"): "0+10x60"}, {s3("ok"): "0+9x60", s3("4xx"): "0+9x60"}],
    ),
    "MLflowS3Slow": (
        "60m",
        "1m",
        [slow("mlflow_s3_request_duration_seconds_bucket", 30, operation="PutObject", result="ok")],
        [slow("mlflow_s3_request_duration_seconds_bucket", 1, operation="PutObject", result="ok")],
    ),
    "MLflowCountsOld": ("80m", "1m", [{COUNTED: "0x90"}], [{COUNTED: "0+60x90"}, {}]),
    "MLflowBackupTooOld": (
        "31h",
        "5m",
        [{job("backup"): "0x400"}],
        [{job("backup"): "7200x400"}, {job("gc"): "0x400"}],
    ),
    "MLflowDrillTooOld": ("241h", "5m", [{job("drill"): "0x3000"}], [{job("drill"): "7200x3000"}]),
    "MLflowCleanupTooOld": ("51h", "5m", [{job("gc"): "0x700"}], [{job("gc"): "7200x700"}]),
    "MLflowTracesTooOld": ("51h", "5m", [{job("traces"): "0x700"}], [{job("traces"): "7200x700"}]),
    "MLflowJobNever": (
        "31h",
        "5m",
        [{COUNTED: "0+300x400"}, {COUNTED: "0+300x400", job("drill"): "0x400"}],
        [{COUNTED: "0+300x400", job("backup"): "_x200 9x200"}, {}],
    ),
    "MLflowWalArchiveFailing": (
        "30m",
        "1m",
        [{wal("archived"): "600x40", wal("failed"): "700x40"}, {wal("failed"): "700x40"}],
        [{wal("archived"): "700x40", wal("failed"): "600x40"}, {wal("archived"): "700x40"}, {}],
    ),
    "MLflowCertificateExpiring": (
        "2h",
        "5m",
        [
            {certificate(ENDS): f"{13 * DAYS}x40"},
            {certificate(ENDS, namespace="cert-manager", exported_namespace="keycloak"): f"{13 * DAYS}x40"},
        ],
        [
            {certificate(ENDS): f"{15 * DAYS}x40"},
            {certificate(ENDS): "0x40"},
            {certificate(ENDS, namespace="team"): f"{DAYS}x40"},
            {certificate(ENDS, namespace="cert-manager", exported_namespace="team"): f"{DAYS}x40"},
        ],
    ),
    "MLflowCertificateNotReady": (
        "40m",
        "1m",
        [{certificate(READY, condition="True"): "0x60"}],
        [
            {certificate(READY, condition="True"): "1x60", certificate(READY, condition="False"): "0x60"},
            {certificate(READY, condition="True", namespace="team"): "0x60"},
        ],
    ),
    "MLflowEdgeCertificateExpiring": (
        "2h",
        "5m",
        [{EDGE: f"{13 * DAYS}x40"}],
        [
            {EDGE: f"{15 * DAYS}x40"},
            {OWN: f"{DAYS}x40"},
            {EDGE: f"{DAYS}x40", EDGE.replace('"1"', '"3"'): f"{60 * DAYS}x40"},
        ],
    ),
    "MLflowPodsNotReady": (
        "20m",
        "1m",
        [
            deployed("1x30"),
            {
                series("kube_statefulset_replicas", namespace="minio", statefulset="minio"): "4x30",
                series("kube_statefulset_status_replicas_ready", namespace="minio", statefulset="minio"): "3x30",
            },
        ],
        [
            deployed("0x30"),
            deployed("0x10 1x5 0x20"),
            {series("kube_deployment_status_replicas_unavailable", namespace="team", deployment="a"): "1x30"},
        ],
    ),
    "MLflowPodsRestarting": ("60m", "1m", [{RESTARTS: "0+0.1x90"}], [{RESTARTS: "0x20 1x60"}, {RESTARTS: "9x90"}]),
    "MLflowJobFailed": (
        "10m",
        "1m",
        [{series(FAILED_JOB, namespace="mlflow", job_name="mlflow-migrate-1", condition="true"): "1x20"}],
        [
            {series(FAILED_JOB, namespace="mlflow", job_name="mlflow-migrate-1", condition="false"): "1x20"},
            {series(FAILED_JOB, namespace="team", job_name="a", condition="true"): "1x20"},
        ],
    ),
    "MLflowVolumeFilling": ("60m", "1m", [{FREE: "10x90", SIZE: "100x90"}], [{FREE: "20x90", SIZE: "100x90"}]),
    "MLflowVolumeFull": ("10m", "1m", [{FREE: "3x20", SIZE: "100x20"}], [{FREE: "10x20", SIZE: "100x20"}]),
    "MLflowVolumeFullSoon": (
        "9h",
        "5m",
        [{FREE: "39-0.1x150", SIZE: "100x150"}],
        [{FREE: "39-0.001x150", SIZE: "100x150"}, {FREE: "90-0.2x150", SIZE: "100x150"}],
    ),
    "MLflowComponentDown": (
        "10m",
        "1m",
        [everyone() | up("0x60"), everyone() | up("_x60", "minio", "minio-0")],
        [everyone()],
    ),
    "MLflowKeycloakSlow": (
        "40m",
        "1m",
        [{SPENT: "0+300x60", LOGIN: "0+100x60"}],
        [{SPENT: "0+30x60", LOGIN: "0+100x60"}],
    ),
    "MLflowMinioUnhealthy": ("10m", "1m", [{HEALTH: "0x20"}], [{HEALTH: "1x20"}, {}]),
    "MLflowMinioDrivesOffline": (
        "20m",
        "1m",
        [{DRIVES: "1x30"}, {DRIVES: "0x30", NODES: "1x30"}],
        [{DRIVES: "0x30", NODES: "0x30"}],
    ),
    "MLflowMinioFilling": (
        "40m",
        "1m",
        [{MINIO_FREE: "10x60", MINIO_SIZE: "100x60"}],
        [{MINIO_FREE: "20x60", MINIO_SIZE: "100x60"}],
    ),
    "MLflowUnsealErrors": (
        "20m",
        "1m",
        [{series(UNSEALED, namespace="mlflow", reason="unseal"): "0x5 1x30"}],
        [{series(UNSEALED, namespace="mlflow", reason="unseal"): "3x40"}],
    ),
    "MLflowSealedSecretNotSynced": (
        "20m",
        "1m",
        [{series(SYNCED, namespace="mlflow", name="a", condition="Synced"): "-1x30"}],
        [{series(SYNCED, namespace="mlflow", name="a", condition="Synced"): value} for value in ("1x30", "0x30")],
    ),
    "MLflowTraefikErrors": (
        "30m",
        "1m",
        [{EDGE_GOOD: "0+90x60", EDGE_BAD: "0+10x60"}],
        [{EDGE_GOOD: "0+990x60", EDGE_BAD: "0+10x60"}, {EDGE_GOOD: "0+9x60"}],
    ),
}


def judged(folder, name):
    """What promtool says of the cases of an alert."""
    fired = f'count by (alertname) (count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}}))'
    at, interval, fires, quiet = CASES[name]
    # Without all others, which take minutes.
    record = {"MLflowCalls": "mlflow:calls", "MLflowLogins": "mlflow:logins"}.get(name.partition("Failing")[0], "-")
    needed = [each for each in rules() if each.get("alert") == name or each.get("record", "").startswith(record)]
    (folder / "alerts.yml").write_text(json.dumps({"groups": [{"name": "one", "rules": needed}]}))
    tests = [
        {
            "name": f"{name} {'fires' if number < len(fires) else 'is quiet'}: {case}",
            "interval": interval,
            "input_series": [{"series": key, "values": values} for key, values in case.items()],
            "promql_expr_test": [
                {
                    "expr": fired,
                    "eval_time": at,
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}] if number < len(fires) else [],
                }
            ],
        }
        for number, case in enumerate([*fires, *quiet])
    ]
    # Samples may be five minutes old.
    unit = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "30m" if interval == "5m" else interval,
        "tests": tests,
    }
    (folder / "tests.yml").write_text(json.dumps(unit))
    return promtool.run("test", "rules", str(folder / "tests.yml"))


@pytest.mark.parametrize("name", CASES)
def test_it_fires_and_is_quiet(name, tmp_path):
    good, said = judged(tmp_path, name)
    assert good, said


def test_all_alerts_are_tested():
    assert {each["alert"] for each in alerts()} == set(CASES)


@pytest.mark.parametrize("wrong", ["2xx", "nothing"])
def test_the_tests_of_alerts_can_fail(wrong, tmp_path, monkeypatch):
    """Promtool sees a metric that has another label, and one that is not there."""
    case = {GOOD: "0+100x120", BAD.replace("5xx", wrong): "0+4x120"}
    monkeypatch.setitem(CASES, "MLflowCallsFailingFast", ("100m", "1m", [case], []))
    assert not judged(tmp_path, "MLflowCallsFailingFast")[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        PROXY,
        {"mlflow_auth": "none", "platform_components": ["postgres", "minio", "mlflow"]},
        {"platform_components": ["mlflow"], "platform_tls": "none"},
    ],
    ids=["everything", "oauth2_proxy", "none", "alone"],
)
def test_the_file_is_valid(options, tmp_path):
    """For a Prometheus without its operator, and with any components; promtool tries the annotations too."""
    file = tmp_path / "alerts.yml"
    file.write_text(alerts_file(**options))
    good, said = promtool.run("check", "rules", str(file))
    assert good, said
    assert "duplicate" not in said, said


def test_annotations_tell_what_happens(tmp_path):
    (tmp_path / "alerts.yml").write_text(alerts_file(platform_runbook_url="https://wiki.example.com/mlflow"))
    alert = {
        "exp_labels": {"severity": "critical", "namespace": "mlflow"},
        "exp_annotations": {
            "summary": "The last backup is too old.",
            "description": "The last backup that ended well did so 1d 7h 0m 0s ago; it should be less than 30 hours.",
            "runbook_url": "https://wiki.example.com/mlflow/jobs.md#mlflowbackuptooold",
        },
    }
    test = {
        "interval": "5m",
        "input_series": [{"series": job("backup"), "values": "0x400"}],
        "alert_rule_test": [{"eval_time": "31h", "alertname": "MLflowBackupTooOld", "exp_alerts": [alert]}],
    }
    unit = {"rule_files": ["alerts.yml"], "evaluation_interval": "30m", "tests": [test]}
    (tmp_path / "tests.yml").write_text(json.dumps(unit))
    good, said = promtool.run("test", "rules", str(tmp_path / "tests.yml"))
    assert good, said


def test_alerts_are_those_of_the_components():
    alone = {each["alert"] for each in alerts(platform_components=["mlflow"], platform_tls="none")}
    assert not [name for name in alone if re.search("Keycloak|Minio|Sealed|Traefik|Certificate|Backup|Drill|Wal", name)]
    assert "MLflowComponentDown" not in alone
    assert {"MLflowDown", "MLflowCallsFailingFast", "MLflowDatabaseSlow"} <= alone
    assert "MLflowLoginsFailingFast" not in {
        each["alert"] for each in alerts(mlflow_auth="none", platform_components=["mlflow"])
    }
    assert "MLflowDrillTooOld" not in {each["alert"] for each in alerts(backup_drill_schedule="")}
    cleanup = {each["alert"] for each in alerts(mlflow_gc_older_than="", mlflow_traces_archive_older_than="")}
    assert not cleanup & {"MLflowCleanupTooOld", "MLflowTracesTooOld"}
    proxies = [each for each in alerts(**PROXY) if each["labels"].get("component") == "oauth2_proxy"]
    assert [each["expr"] for each in proxies] == ['absent(up{namespace="mlflow",pod=~"mlflow-oauth2-proxy.*"} == 1)']


@pytest.mark.parametrize(
    ("options", "alert", "part"),
    [
        ({"backup_schedule": "0 2 * * 1"}, "MLflowBackupTooOld", f"> {192 * HOUR}"),
        ({"backup_schedule": "0 */6 * * *"}, "MLflowBackupTooOld", f"> {30 * HOUR}"),
        ({"platform_alerts": {"backup_hours": 7}}, "MLflowBackupTooOld", f"> {7 * HOUR}"),
        ({"platform_alerts": {"calls_answered": 99}}, "MLflowCallsFailingFast", "> 0.144\n"),
        ({"platform_alerts": {"logins_working": 99.5}}, "MLflowLoginsFailingSlowly", "> 0.005\n"),
        ({"platform_certificate_days": 8}, "MLflowEdgeCertificateExpiring", f"< {2 * DAYS}"),
        ({"platform_alerts": {"volume_free": 25}}, "MLflowMinioFilling", "< 0.25"),
        ({"mlflow_namespace": "ml"}, "MLflowDown", 'namespace="ml"'),
    ],
)
def test_limits_follow_the_inventory(options, alert, part):
    (expression,) = [each["expr"] for each in alerts(**options) if each["alert"] == alert]
    assert part in expression


# --- what rules rest on


def test_each_alert_has_a_runbook():
    """A section of its own, and no section is of an alert that is not there."""
    sections = {
        f"{page.name}#{name.lower()}"
        for page in RUNBOOKS.glob("*.md")
        for name in re.findall(r"^## (MLflow\w+)$", page.read_text(), re.MULTILINE)
    }
    prefix = get_role().value("platform_runbook_url") + "/"
    assert {each["annotations"]["runbook_url"].removeprefix(prefix) for each in alerts()} == sections


def test_each_alert_says_what_and_how_urgent():
    for each in alerts():
        assert each["labels"]["severity"] in ("critical", "warning"), each["alert"]
        assert each["annotations"].keys() == {"summary", "description", "runbook_url"}, each["alert"]
        assert each["annotations"]["summary"].endswith("."), each["alert"]
        assert "for" in each, each["alert"]
    assert [each for each in rules() if "record" in each and not each["record"].startswith("mlflow:")] == []


def test_metrics_of_the_server_are_its_metrics():
    """By their names, and the reasons by which it refuses."""
    package = REPOSITORY / "server" / "src" / "mlops_mlflow_server"
    own = set(re.findall(r'"(mlflow_\w+)"', (package / "metrics.py").read_text()))
    text = "\n".join(each["expr"] for each in rules())
    used = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in re.findall(r"\b(mlflow_\w+)\{", text)}
    assert len(used) > 10
    assert used - own == set()
    code = "".join(path.read_text() for path in package.glob("*.py"))
    for words in re.findall(r'reason=~?"([^"]+)"', text):
        for word in words.split("|"):
            assert f'"{word}"' in code, word


def test_commands_of_runbooks_name_what_there_is():
    """Namespaces, workloads and their containers."""
    options = EVERYTHING | {"minio_image": "localhost/minio:1", "platform_monitoring": "annotations"}
    found = [each for name in rendering.COMPONENTS for each in rendering.Role(name).manifests(options)]
    namespaces = {each["metadata"]["name"] for each in found if each["kind"] == "Namespace"}
    workloads = {
        f"{each['metadata']['namespace']} {each['kind'].lower()}/{each['metadata']['name']}"
        for each in found
        if each["metadata"].get("namespace")
    }
    containers = {
        one["name"]
        for each in found
        if (template := rendering.pod_template(each))
        for one in template["spec"]["containers"]
    }
    labels = {
        template["metadata"]["labels"]["app.kubernetes.io/name"]
        for each in found
        if (template := rendering.pod_template(each))
    }
    wrong = []
    commands = [line for page in RUNBOOKS.glob("*.md") for line in re.findall(r"kubectl [^`\n]+", page.read_text())]
    for command in commands:
        place = re.search(r"--namespace (\S+)", command)
        wrong += [command] if place and place.group(1) not in namespaces else []
        for workload in re.findall(r"\b(?:deployment|statefulset|cronjob)/[\w-]+", command):
            wrong += [command] if not place or f"{place.group(1)} {workload}" not in workloads else []
        wrong += [command for name in re.findall(r"--container (\S+)", command) if name not in containers]
        wrong += [command for name in re.findall(r"app\.kubernetes\.io/name=([\w-]+)", command) if name not in labels]
    assert len(commands) > 30
    assert wrong == []


# --- the objects of the operator


def test_the_rule_has_what_the_file_has():
    (rule,) = get_role().render(
        "mlflow.prometheusrule.yaml.j2", EVERYTHING | {"platform_monitoring_labels": {"release": "kps"}}
    )
    assert rule["spec"] == yaml.safe_load(alerts_file())
    assert rule["metadata"]["labels"]["release"] == "kps"
    for way in ("none", "annotations"):
        assert get_role().render("mlflow.prometheusrule.yaml.j2", EVERYTHING | {"platform_monitoring": way}) == []


@pytest.mark.parametrize(
    ("name", "port", "endpoint"),
    [
        ("mlflow", "metrics", {}),
        ("traefik", "internal", {}),
        ("cert_manager", "metrics", {"honorLabels": True}),
        ("sealed_secrets", "metrics", {"honorLabels": True}),
        ("keycloak", "management", "keycloak-internal.keycloak.svc"),
        ("minio", "https-s3", "minio.minio.svc"),
    ],
)
def test_components_have_a_monitor(name, port, endpoint):
    """Of pods and a port that there are, and of nothing else."""
    role = rendering.Role(name)
    options = EVERYTHING | {"minio_image": "localhost/minio:1", "platform_monitoring_labels": {"release": "kps"}}
    (monitor,) = role.registered(options)["monitor_objects"]
    if isinstance(endpoint, str):
        secret = f"{name}-server-tls"
        endpoint = {
            "scheme": "https",
            "tlsConfig": {"serverName": endpoint, "ca": {"secret": {"name": secret, "key": "ca.crt"}}},
        }
        (certificate,) = role.value(f"{name}_component.certificates", options)
        assert certificate["name"] == secret
        assert endpoint["tlsConfig"]["serverName"] in certificate["hosts"]
    path = "/minio/v2/metrics/cluster" if name == "minio" else "/metrics"
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": port, "path": path} | endpoint]
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert monitor["metadata"]["labels"]["release"] == "kps"
    assert monitor["metadata"]["namespace"] == name.replace("_", "-")
    chosen = monitor["spec"]["selector"]["matchLabels"]
    pods = [one for each in role.manifests(options) if (one := rendering.pod_template(each))]
    served = [
        one["spec"]["containers"][0]["ports"] for one in pods if chosen.items() <= one["metadata"]["labels"].items()
    ]
    assert served
    assert all(port in [each["name"] for each in ports] for ports in served)
    policies = role.policies(options | {"platform_monitoring_namespaces": ["monitoring"]})
    (number,) = {each["containerPort"] for ports in served for each in ports if each["name"] == port}
    open_to = [each for each in policies if each["metadata"]["name"].startswith("monitoring-to-")]
    assert [each["spec"]["ingress"][0]["ports"][0]["port"] for each in open_to] == [number]
    for way in ("none", "annotations"):
        assert role.registered(options | {"platform_monitoring": way})["monitor_objects"] == []


def test_oauth2_proxy_has_a_monitor_of_its_own():
    found = get_role().registered(EVERYTHING | PROXY)["monitor_objects"]
    assert [each["metadata"]["name"] for each in found] == ["mlflow", "mlflow-oauth2-proxy"]


def test_components_without_metrics_have_none():
    for name in ("postgres", "backup"):
        assert rendering.Role(name).registered(EVERYTHING)["monitor_objects"] == []


def test_without_tls_between_components_nothing_is_verified():
    options = EVERYTHING | {"platform_internal_tls": False, "platform_components": ["minio", "keycloak", "mlflow"]}
    for name, port in (("minio", "http-s3"), ("keycloak", "management")):
        (monitor,) = rendering.Role(name).monitors(options)
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"], "tlsConfig" in endpoint, "scheme" in endpoint) == (port, False, False)


def test_metrics_of_minio_ask_for_a_token_where_it_is_not_closed():
    minio = rendering.Role("minio")
    token = {"minio_prometheus_auth": "jwt", "minio_prometheus_secret": "prometheus-token"}
    (monitor,) = minio.monitors(EVERYTHING | token)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "prometheus-token", "key": "token"}}
    chosen = {
        (way, closed): minio.value(
            "minio_prometheus_auth", {"platform_monitoring": way, "platform_network_policies": closed}
        )
        for way in ("none", "annotations", "operator")
        for closed in (True, False)
    }
    assert [place for place, auth in chosen.items() if auth == "public"] == [("operator", True)]


@pytest.mark.parametrize("way", ["none", "annotations", "operator"])
def test_pods_are_annotated_where_that_is_asked_for(way):
    options = EVERYTHING | PROXY | {"platform_monitoring": way}
    scraped = [
        template["metadata"]["annotations"]["prometheus.io/port"]
        for name in ("mlflow", "traefik", "cert_manager")
        for each in rendering.Role(name).manifests(options)
        if (template := rendering.pod_template(each))
        and "prometheus.io/scrape" in (template["metadata"].get("annotations") or {})
    ]
    assert sorted(set(scraped)) == (["5001", "8080", "9090", "9402"] if way == "annotations" else [])


@pytest.mark.parametrize(
    ("way", "gone"),
    [
        ("operator", ["PodMonitor/of-old"]),
        (
            "annotations",
            ["PodMonitor/mlflow", "PodMonitor/of-old", "PrometheusRule/mlflow", "ConfigMap/mlflow-dashboards"],
        ),
        ("none", ["PodMonitor/mlflow", "PodMonitor/of-old", "PrometheusRule/mlflow", "ConfigMap/mlflow-dashboards"]),
    ],
)
def test_what_another_way_left_is_removed(way, gone):
    """In the component's own namespace; those of others stay."""
    there = [
        {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"namespace": namespace, "name": name}}
        for kind, namespace, name in (
            ("PodMonitor", "mlflow", "mlflow"),
            ("PodMonitor", "mlflow", "of-old"),
            ("PodMonitor", "other", "of-old"),
            ("PrometheusRule", "mlflow", "mlflow"),
            ("ConfigMap", "mlflow", "mlflow-dashboards"),
            ("ConfigMap", "other", "mlflow-dashboards"),
        )
    ]
    options = EVERYTHING | {"platform_monitoring": way, "platform_cluster": rendering.CLUSTER | {"monitors": there}}
    left = get_role().registered(options)["switched_off"]
    assert [f"{each['kind']}/{each['metadata']['name']}" for each in left if each in there] == gone


# --- what is written of them


def test_the_file_is_written_where_it_is_asked_for():
    """With the same text, by the task that is in each run."""
    (task,) = [each for each in converging() if each["name"] == "Write the alerts to a file"]
    component = get_role().registered(EVERYTHING)
    assert get_role().template(task["loop"], EVERYTHING | {"__platform_present": [component]}) == [component]
    content = get_role().template(task["ansible.builtin.copy"]["content"], EVERYTHING | {"item": component})
    assert content == alerts_file()
    for name in ("", "/tmp/alerts.yml"):
        assert get_role().value(task["when"], {"platform_alerts_file": name}) == bool(name)


def converging():
    """The tasks by which components become present."""
    (block,) = [each for each in rendering.tasks_of("platform", "converge") if "block" in each]
    return block["block"]


def test_the_page_names_all_alerts():
    page = (REPOSITORY / "docs" / "monitoring.md").read_text()
    table = page.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(MLflow\w+)`", table)) == set(CASES)


def test_the_configuration_of_the_page_finds_all_pods(tmp_path):
    """It is valid, and has the ports, paths and names of the PodMonitors."""
    page = (REPOSITORY / "docs" / "monitoring.md").read_text()
    (text,) = re.findall(r"```yaml\n(scrape_configs:\n.*?)```", page, re.DOTALL)
    config = yaml.safe_load(text)
    for each in config["scrape_configs"]:
        # Debian's promtool is built without Kubernetes.
        assert each.pop("kubernetes_sd_configs")[0]["role"] == "pod"
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    good, said = promtool.run("check", "config", "--syntax-only", str(file))
    assert good, said
    for name in rendering.COMPONENTS:
        for monitor in rendering.Role(name).monitors(EVERYTHING | PROXY | {"minio_image": "localhost/minio:1"}):
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            assert monitor["metadata"]["namespace"] in text
            assert endpoint["path"] in (text if name == "minio" else "/metrics")
            verified = endpoint.get("tlsConfig", {}).get("serverName")
            assert not verified or (verified in text and f"regex: {endpoint['port']}," in text)
            assert verified or f"{monitor['metadata']['name']};" in text


# --- Event-Driven Ansible ---------------------------------------------------------------------------------------------


@functools.cache
def rulebook():
    """What is done about alerts without anybody."""
    return yaml.safe_load((REPOSITORY / "extensions" / "eda" / "rulebooks" / "alerts.yml").read_text())


def ruleset():
    """Its only set of rules."""
    (found,) = rulebook()
    return found


def test_the_rulebook_is_one():
    schema = pathlib.Path(ansiblelint.__file__).with_name("schemas") / "rulebook.json"
    jsonschema.validate(rulebook(), json.loads(schema.read_text()))


def test_alerts_of_the_rulebook_exist():
    named = set(re.findall(r'alertname == "(\w+)"', str(rulebook())))
    known = alerts()
    assert named
    assert named <= {rule["alert"] for rule in known}
    jobs = set(re.findall(r'job_name == "(\w+)"', str(rulebook())))
    assert jobs
    assert jobs <= {rule["labels"].get("job_name") for rule in known}
    # The last rule takes the others.
    (prefix,) = re.findall(r'alertname is match\("(\w+)"\)', ruleset()["rules"][-1]["condition"])
    assert [rule["alert"] for rule in known if not rule["alert"].startswith(prefix)] == []


def test_an_alert_is_told_of_its_namespace_where_the_rulebook_asks_for_it():
    """Rules that ask for MLflow's namespace name alerts that have it."""
    for rule in ruleset()["rules"]:
        if "mlflow_namespace" in rule["condition"]:
            for name in re.findall(r'alertname == "(\w+)"', rule["condition"]):
                found = [each["expr"] for each in alerts() if each["alert"] == name]
                assert found
                assert all("by (namespace)" in expr and 'namespace="mlflow"' in expr for expr in found), name


def test_the_rulebook_runs_what_is_safe_and_documented():
    page = (REPOSITORY / "docs" / "status.md").read_text()
    ran = []
    for rule in ruleset()["rules"]:
        assert 'event.alert.status == "firing"' in rule["condition"], rule["name"]
        assert rule["throttle"]["once_within"], rule["name"]
        for name in re.findall(r'alertname == "(\w+)"', rule["condition"]):
            assert f"`{name}`" in page, name
        (action,) = rule["actions"]
        # Nothing of an alert, and nothing else than the playbook's own variables.
        assert list(action["run_playbook"]) == ["name"], rule["name"]
        collection, _dot, playbook = action["run_playbook"]["name"].rpartition(".")
        assert collection == "mlops.mlflow"
        assert (REPOSITORY / "playbooks" / f"{playbook}.yml").exists()
        assert f"`mlops.mlflow.{playbook}`" in page
        ran.append(playbook)
    assert ran == ["backup", "drill", "site", "status"]
    (converges,) = [rule for rule in ruleset()["rules"] if "mlops.mlflow.site" in str(rule["actions"])]
    assert converges["condition"].startswith("vars.mlflow_converges == true and ")
