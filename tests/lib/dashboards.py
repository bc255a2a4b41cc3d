"""The queries of Grafana's dashboards, and what a Prometheus answers to them."""

import itertools
import json
import math
import re
from typing import NamedTuple

import requests

from tests.lib import REPOSITORY

FOLDER = REPOSITORY / "roles" / "mlflow" / "files" / "dashboards"
# What components told when they were scraped, or would by their sources, as each file says: metrics that may be used.
SCRAPES = REPOSITORY / "tests" / "lib" / "scrapes"
# What Grafana fills in itself.
WINDOWS = {"$__rate_interval": "5m", "$__range": "1h"}
# By unit, the least and the largest value that there can be. A difference may be negative, and time may be over.
BOUNDS = {
    "binBps": (0, 1e13),
    "bytes": (-1e16, 1e16),
    "cps": (0, 1e7),
    "ops": (0, 1e7),
    "percentunit": (-0.001, 1.001),
    "reqps": (0, 1e7),
    "s": (-3650 * 86400, 3650 * 86400),
    "short": (-1e12, 1e12),
}
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Query(NamedTuple):
    """A query of a panel.

    Attributes:
        dashboard: the name of its file, without an ending.
        panel: the title of its panel.
        expr: PromQL, with Grafana's variables in it.
        unit: of its panel.
        legend: of its series, with names of labels in double braces.
        instant: whether its panel asks for the newest values only.
        none: what its panel says without data, or an empty string for a panel that always has some.
    """

    dashboard: str
    panel: str
    expr: str
    unit: str
    legend: str
    instant: bool
    none: str

    def needs(self):
        """What has to be there besides what the stack's pods tell."""
        sources = {"kube-state-metrics": "kube_", "kubelet": "kubelet_", "rules": "mlflow:|ALERTS"}
        return {source for source, start in sources.items() if re.search(rf"\b({start})", self.expr)}


class Sample(NamedTuple):
    """A line of a scrape."""

    metric: str
    labels: dict[str, str]
    value: float


def read(name):
    """A dashboard as Grafana has it."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def names():
    """The dashboards that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def panels(name):
    """The panels of a dashboard, without the headings of rows."""
    return [each for each in read(name)["panels"] if each["type"] != "row"]


def queries():
    """All queries of all panels."""
    return [
        Query(
            name,
            panel["title"],
            target["expr"],
            panel["fieldConfig"]["defaults"]["unit"],
            target.get("legendFormat", ""),
            bool(target.get("instant")),
            panel["fieldConfig"]["defaults"].get("noValue", ""),
        )
        for name in names()
        for panel in panels(name)
        for target in panel["targets"]
    ]


def variables(name):
    """The variables that a dashboard may choose by, each with the series that know its values, and its label."""
    found = {}
    for each in read(name)["templating"]["list"]:
        if each["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]).groups()
            found[each["name"]] = (series, label)
    return found


def filled(expr, values, windows=None):
    """A query with the values of variables, as Grafana writes them: several are an alternative of a pattern."""
    for name, window in (WINDOWS | (windows or {})).items():
        expr = expr.replace(name, window)
    for name, value in values.items():
        text = value if isinstance(value, str) else f"({'|'.join(re.escape(each) for each in value)})"
        expr = re.sub(rf"\${name}\b", lambda _match, text=text: text.replace("\\", "\\\\"), expr)
    if "$" in expr:
        raise ValueError(f"A variable is left in {expr}")
    return expr


def scraped(name):
    """The samples of a recorded scrape."""
    samples = []
    for line in (SCRAPES / f"{name}.prom").read_text().splitlines():
        if line and not line.startswith("#"):
            metric, labels, value = SAMPLE.match(line).groups()
            samples.append(Sample(metric, dict(LABEL.findall(labels or "")), float(value)))
    return samples


def wrong(query, series):
    """What is wrong with what a panel shows: no data, numbers that are not of its unit, or no labels for its legend."""
    if not series:
        return "no data"
    least, most = BOUNDS[query.unit]
    numbers = [each for _labels, found in series for each in found if not least <= each <= most]
    lacked = {
        name for labels, _found in series for name in re.findall(r"\{\{(\w+)\}\}", query.legend) if name not in labels
    }
    problems = [f"not of the unit {query.unit}: {numbers[:3]}"] if numbers else []
    return "; ".join(problems + ([f"without {', '.join(sorted(lacked))}"] if lacked else []))


def told(series):
    """Labels and numbers of series. NaN is none: of nothing there is no share and no quantile."""
    found = [(labels, [float(value) for _time, value in values]) for labels, values in series]
    kept = [(labels, [number for number in numbers if not math.isnan(number)]) for labels, numbers in found]
    return [(labels, numbers) for labels, numbers in kept if numbers]


class Prometheus:
    """The HTTP API of a Prometheus.

    Args:
        url: where it is, such as http://127.0.0.1:9090.
        headers: what requests need besides, such as a login.
    """

    def __init__(self, url, headers=None):
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers.update(headers or {})

    def _get(self, path, **parameters):
        answer = self._session.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=60)
        # An error of a query is a 4xx that says which.
        found = answer.json()
        if found["status"] != "success":
            raise ValueError(f"{path} {parameters}: {found['error']}")
        return found["data"]

    def values(self, series, label):
        """The values of a label of series, of the last hour."""
        now = float(self._get("query", query="time()")["result"][1])
        return self._get(f"label/{label}/values", **{"match[]": series, "start": now - 3600, "end": now})

    def newest(self, expr):
        """The series of an expression now: their labels, and a number each."""
        found = self._get("query", query=expr)
        if found["resultType"] == "scalar":
            return [({}, [float(found["result"][1])])]
        return told((each["metric"], [each["value"]]) for each in found["result"])

    def past(self, expr, seconds=600, step=60):
        """The series of an expression in the past: their labels, and all their numbers."""
        now = float(self._get("query", query="time()")["result"][1])
        found = self._get("query_range", query=expr, start=now - seconds, end=now, step=step)
        return told((each["metric"], each["values"]) for each in found["result"])

    def choices(self, name):
        """The variables of a dashboard, for every value that Prometheus has; for several at once too, where one may."""
        known = variables(name)
        several = {each["name"] for each in read(name)["templating"]["list"] if each.get("multi")}
        values = [
            [sorted(found)] if variable in several else found
            for variable, (series, label) in known.items()
            for found in [self.values(series, label)]
        ]
        return [dict(zip(known, chosen, strict=True)) for chosen in itertools.product(*values)]

    def answer(self, query, chosen, windows=None):
        """What a panel shows: the series of its query for these values of variables."""
        expr = filled(query.expr, chosen, windows)
        return self.newest(expr) if query.instant else self.past(expr)

    def shown(self, windows=None):
        """What all panels show for every value of their variables: queries, the values, and the series."""
        for name in names():
            for chosen in self.choices(name):
                for query in queries():
                    if query.dashboard == name:
                        yield query, chosen, self.answer(query, chosen, windows)
