"""Dashboards are what Grafana reads, ask for metrics that there are, and come and go with the Prometheus operator."""

import ast
import json
import re
import socket
import subprocess
import time

import pytest
import requests
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard, units

from tests.lib import REPOSITORY, dashboards, promtool, rendering
from tests.unit.roles.test_alerts import EVERYTHING, PROXY, RUNBOOKS, get_role, rules

TEMPLATE = "mlflow-dashboards.configmap.yaml.j2"
QUERIES = dashboards.queries()
# What scrapes add to the metrics of a component: the labels by which alerts and dashboards tell stacks apart.
PLACES = {
    "mlflow": {"namespace": "mlflow", "pod": "mlflow-1"},
    "minio": {"namespace": "minio", "pod": "minio-0"},
    "keycloak": {"namespace": "keycloak", "pod": "keycloak-0"},
    "oauth2-proxy": {"namespace": "mlflow", "pod": "mlflow-oauth2-proxy-1"},
    "traefik": {"namespace": "traefik", "pod": "traefik-1"},
    "cert-manager": {},
    "sealed-secrets": {},
    "cluster": {},
    "prometheus": {},
}
WORDS = {"by", "on", "or", "and", "unless", "without", "ignoring", "bool", "offset", "le"}
FUNCTIONS = {"changes", "count", "deriv", "histogram_quantile", "increase", "max", "min", "rate", "sum", "time", "topk"}
FUNCTIONS |= {"absent", "predict_linear", "vector"}


def chosen(name, metric):
    """The values of a dashboard's variables in the scrapes of this file."""
    several = [each["name"] for each in dashboards.read(name)["templating"]["list"] if each.get("multi")]
    return {
        variable: [*rendering.COMPONENTS] if variable in several else metric for variable in dashboards.variables(name)
    }


def one(query):
    """A query for some values."""
    return dashboards.filled(query.expr, chosen(query.dashboard, "mlflow"))


def metrics_of(expr):
    """The metrics of an expression: names that are no functions, no labels and no words of PromQL."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    bare = re.sub(r"\b(by|on|ignoring|without) \([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\boffset \w+", "", bare)
    return set(re.findall(r"\b[a-zA-Z_][\w:]*", bare)) - WORDS - FUNCTIONS


def labels_of(expr):
    """The labels that an expression chooses and groups by."""
    matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expr)
    grouped = [name for names in re.findall(r"\bby \(([^)]*)\)", expr) for name in names.split(", ")]
    return {*matched, *grouped}


@pytest.fixture(scope="module")
def known():
    """The labels of each metric that there is."""
    found = {}
    for name, place in PLACES.items():
        for sample in dashboards.scraped(name):
            found.setdefault(sample.metric, set()).update(sample.labels, place)
    return found


# --- what Grafana reads


@pytest.mark.parametrize("name", dashboards.names())
def test_it_is_valid(name):
    """The SDK reads all of it, and would write nothing else."""
    register_default_plugins()
    board = dashboards.read(name)
    assert json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(board))) == board


def test_another_dashboard_is_not():
    board = dashboards.read("server")
    board["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    assert json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(board))) != board


@pytest.mark.parametrize("name", dashboards.names())
def test_panels_say_what_they_show(name):
    known_units = {value for key, value in vars(units).items() if isinstance(value, str) and not key.startswith("_")}
    board = dashboards.read(name)
    found = dashboards.panels(name)
    assert len({each["id"] for each in found}) == len(found)
    assert len({each["title"] for each in found}) == len(found)
    assert board["templating"]["list"][0]["name"] == "datasource"
    for each in found:
        title = each["title"]
        assert each["description"].endswith("."), title
        assert "\n" not in each["description"], title
        assert each["fieldConfig"]["defaults"]["unit"] in known_units & dashboards.BOUNDS.keys(), title
        assert each["targets"], title
        for place in (each, *each["targets"]):
            assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title
        if len(each["targets"]) > 1:
            assert all(target["legendFormat"] for target in each["targets"]), title


@pytest.mark.parametrize("name", dashboards.names())
def test_panels_do_not_overlap(name):
    taken = set()
    for each in dashboards.read(name)["panels"]:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, each["title"]
        assert max(x for x, _y in cells) < 24, each["title"]
        taken |= cells


def test_panels_lead_to_runbooks():
    """To sections that there are; and each section of an alert has a panel, but for those of the list."""
    sections = {"README.md"} | {
        f"{page.name}#{heading.lower()}"
        for page in RUNBOOKS.glob("*.md")
        for heading in re.findall(r"^## (MLflow\w+)$", page.read_text(), re.MULTILINE)
    }
    linked = {
        link["url"]
        for name in dashboards.names()
        for panel in dashboards.panels(name)
        for link in panel.get("links", [])
    }
    assert {url.partition("/")[0] for url in linked} == {"${runbooks}"}
    reached = {url.partition("/")[2] for url in linked}
    assert reached - sections == set()
    assert {each.partition("#")[2] for each in sections - reached} == {
        # Another alert of the same panel leads there.
        "mlflowdatabaseunavailable",
        "mlflowloginsfailingslowly",
        "mlflowunsealerrors",
        "mlflowvolumefull",
    }


# --- what they ask for


def test_queries_are_of_promql(tmp_path):
    assert len(QUERIES) > 100
    found = [{"record": f"query:{number}", "expr": one(query)} for number, query in enumerate(QUERIES)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": found}]}))
    good, said = promtool.run("check", "rules", "--lint=none", str(file))
    assert good, said
    assert f"{len(QUERIES)} rules found" in said
    found[0]["expr"] += ")"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": found}]}))
    assert not promtool.run("check", "rules", "--lint=none", str(file))[0]


def test_queries_ask_for_metrics_that_there_are(known):
    """With labels that they have."""
    for query in QUERIES:
        expr = one(query)
        metrics = metrics_of(expr)
        assert metrics or expr == "time()", query
        assert metrics - known.keys() == set(), query
        labels = {label for metric in metrics for label in known[metric]}
        # Of a Prometheus that does not let pods tell of other namespaces.
        assert labels_of(expr) - labels - {"exported_namespace"} == set(), query
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= labels_of(expr), query
    for name in dashboards.names():
        for series, label in dashboards.variables(name).values():
            metrics = metrics_of(series) or set(re.search(r'__name__=~"([^"]+)"', series).group(1).split("|"))
            assert metrics <= known.keys(), series
            for metric in metrics:
                assert {label, *labels_of(series)} - {"__name__"} <= known[metric], series


def test_the_recorded_metrics_of_the_server_are_its_metrics():
    """All of them, with their labels."""
    code = (REPOSITORY / "server" / "src" / "mlops_mlflow_server" / "metrics.py").read_text()
    written = {}
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("Counter", "Gauge", "Histogram"):
            labels = call.args[2].elts if len(call.args) > 2 else []
            written[call.args[0].value] = {each.value for each in labels}
    recorded = {}
    for sample in dashboards.scraped("mlflow"):
        name = re.sub(r"_(total|bucket|count|sum)$", "", sample.metric)
        recorded.setdefault(name, set()).update(sample.labels.keys() - {"le"})
    assert len(written) > 15
    assert recorded == written


def test_records_of_rules_are_those_of_the_alerts():
    records = {each["record"] for each in rules() if "record" in each}
    assert {each.metric for each in dashboards.scraped("prometheus") if ":" in each.metric} <= records
    assert {name.partition("MLflow")[0] for name in (each["alert"] for each in rules() if "alert" in each)} == {""}


def test_alerts_ask_for_metrics_that_there_are(known):
    """With labels that they have."""
    records = {each["record"] for each in rules() if "record" in each}
    for rule in [*rules(), *rules(**PROXY)]:
        expr = " ".join(rule["expr"].split()).replace("( ", "(").replace(" )", ")")
        metrics = metrics_of(expr)
        assert metrics - known.keys() - records == set(), rule
        labels = {label for metric in metrics for label in known.get(metric, {"namespace"})}
        assert labels_of(expr) - labels - {"exported_namespace"} == set(), rule


def test_pages_name_metrics_that_there_are(known):
    """In what looks like a query."""
    starts = {metric.partition("_")[0] for metric in known if re.match("[a-z]+_", metric)}
    pattern = re.compile(rf"\b((?:{'|'.join(starts)})_\w+)(?=[{{[])")
    pages = [*RUNBOOKS.glob("*.md"), REPOSITORY / "docs" / "monitoring.md"]
    named = {name for page in pages for name in pattern.findall(page.read_text())}
    assert len(named) > 10
    assert named - known.keys() == set()


def test_it_is_known_what_a_query_needs():
    needs = {}
    for query in QUERIES:
        for source in query.needs():
            needs.setdefault(source, set()).add(query.panel)
    assert {"Jobs that failed", "Pods that restarted"} <= needs["kube-state-metrics"]
    assert {"Volumes", "Volumes that are taken", "Time until a volume is full"} == needs["kubelet"]
    assert {"Alerts that fire", "Logins that work"} <= needs["rules"]


# --- what they show: a real Prometheus with what components told


def grown(metric):
    """How much a metric grows in a second. Some of MinIO's counters do not end as counters do."""
    if metric == "kubelet_volume_stats_available_bytes":
        return -1000
    ends = ("_total", "_count", "_sum", "_bucket", "_distribution", "_process_cpu_total_seconds")
    gauges = re.compile(
        r"minio_(cluster_(drive|nodes|usage|bucket)|s3_requests_(inflight|waiting)|node_(file|go)).*|jvm_.*"
    )
    return 0.05 if (metric.endswith(ends) or "_traffic_" in metric) and not gauges.match(metric) else 0


def samples_of(times):
    """OpenMetrics of all recorded scrapes at these times; what is a time is an hour ago, or in ten days."""
    now = time.time()
    lines = []
    for name, place in PLACES.items():
        for metric, labels, value in dashboards.scraped(name):
            text = ",".join(f'{key}="{each}"' for key, each in sorted((place | labels).items()))
            for at in times:
                number = value + grown(metric) * (at - now + 31 * 86400) * (1 if value else 0)
                if value > 1.7e9 and value < 1.9e9:
                    number = now - 3600 if "certificate" not in metric and "tls_certs" not in metric else now + 864000
                lines.append((metric, f"{metric}{{{text}}} {number} {at:.3f}"))
    return "\n".join(line for _metric, line in sorted(lines, key=lambda each: each[0])) + "\n# EOF\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus that was told of all components for an hour, a day ago and 30 days ago."""
    folder = tmp_path_factory.mktemp("prometheus")
    now = time.time()
    for name, ago, length in (("now", 4800, 5100), ("day", 86700, 600), ("month", 30 * 86400 + 300, 600)):
        file = folder / f"{name}.prom"
        file.write_text(samples_of([now - ago + second for second in range(0, length, 60)]))
        good, said = promtool.run("tsdb", "create-blocks-from", "openmetrics", str(file), str(folder / "data"))
        assert good, said
    (folder / "prometheus.yml").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = promtool.program().removesuffix("promtool") + "prometheus"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=90d", "--log.level=error"]
    with subprocess.Popen([program, *options]) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _attempt in range(300):
                try:
                    if requests.get(f"{url}/-/ready", timeout=1).ok:
                        break
                except requests.ConnectionError:
                    assert process.poll() is None
                time.sleep(0.1)
            yield dashboards.Prometheus(url)
        finally:
            process.terminate()


def test_panels_have_data(prometheus):
    """Of their units, for every value of their variables, and with what their legends name."""
    shown = list(prometheus.shown())
    assert [query for query, _chosen, _series in shown] == QUERIES
    assert {query: wrong for query, _chosen, series in shown if (wrong := dashboards.wrong(query, series))} == {}


def test_panels_of_another_stack_have_none(prometheus):
    """But for what is a number with nothing to count."""
    found = []
    for query in QUERIES:
        values = {each: "other" for each in dashboards.variables(query.dashboard)}
        if [number for _labels, numbers in prometheus.answer(query, values) for number in numbers if number]:
            found.append(query.panel)
    # Those of SealedSecrets are in any namespace.
    assert found == []


def test_what_is_wrong_is_seen(prometheus):
    query = QUERIES[0]
    with pytest.raises(ValueError, match="A variable is left"):
        prometheus.answer(query, {})
    with pytest.raises(ValueError, match="parse error"):
        prometheus.newest("sum(")
    assert prometheus.newest("nothing_of_this_name") == []
    assert prometheus.newest("vector(0) / vector(0)") == []
    query = query._replace(unit="percentunit", legend="{{route}}")
    assert dashboards.wrong(query, [({"route": "/api"}, [0, 1])]) == ""
    assert dashboards.wrong(query, []) == "no data"
    assert dashboards.wrong(query, [({}, [1, 99.9])]) == "not of the unit percentunit: [99.9]; without route"


# --- the object of a stack


def config_map(**options):
    """The dashboards of a stack, as a run applies them."""
    (found,) = get_role().render(TEMPLATE, EVERYTHING | options)
    return found


def boards(**options):
    """The dashboards of a stack by their titles."""
    found = {name: json.loads(text) for name, text in config_map(**options)["data"].items()}
    assert {f"{each['uid']}.json" for each in found.values()} == found.keys()
    return {each["title"].removeprefix("MLflow: "): each for each in found.values()}


def test_the_sidecar_finds_them():
    found = config_map(platform_monitoring_labels={"release": "kps"})
    assert found["metadata"]["labels"] == {
        "grafana_dashboard": "1",
        "release": "kps",
        "app.kubernetes.io/name": "mlflow",
        "app.kubernetes.io/part-of": "mlflow-platform",
        "app.kubernetes.io/managed-by": "mlops.mlflow",
    }
    assert (
        config_map(platform_monitoring_labels={"grafana_dashboard": "yes"})["metadata"]["labels"]["grafana_dashboard"]
        == "yes"
    )
    # kubectl apply keeps a copy in an annotation, which may be 262144 bytes.
    assert len(json.dumps(found)) < 200_000
    for way in ("none", "annotations"):
        assert get_role().render(TEMPLATE, EVERYTHING | {"platform_monitoring": way}) == []


def test_they_are_those_of_the_components():
    everything = boards()
    assert len(everything) == len(dashboards.names())
    for title, board in everything.items():
        committed = dashboards.read(title.lower())
        assert board["panels"] == committed["panels"]
        assert board["uid"] == committed["uid"]
    assert boards(platform_components=["mlflow"]).keys() == {"operation", "server", "growth"}
    assert boards(platform_components=["mlflow", "minio"]).keys() == {"operation", "server", "growth", "MinIO"}


def test_they_begin_with_the_stack():
    found = boards(platform_runbook_url="https://wiki.example.com/mlflow", minio_namespace="store")
    values = {
        (title, each["name"]): each["current"]["value"]
        for title, board in found.items()
        for each in board["templating"]["list"]
        if each["type"] in ("query", "constant")
    }
    assert values["server", "namespace"] == "mlflow"
    assert values["MinIO", "minio"] == "store"
    assert values["Keycloak", "keycloak"] == "keycloak"
    assert {"mlflow", "store", "postgres", "traefik"} < set(values["operation", "components"])
    assert {values[title, "runbooks"] for title in found} == {"https://wiki.example.com/mlflow"}


def test_two_stacks_have_two():
    """In one Grafana: by uid, by title and by file."""
    here, there = boards(), boards(mlflow_namespace="ml")
    assert {each["uid"] for each in here.values()} & {each["uid"] for each in there.values()} == set()
    assert all(len(each["uid"]) <= 40 for each in there.values())
    assert there.keys() == {f"{title} (ml)" for title in here}
