"""Objects that are created for the matrix: one world for each caller and prefix.

Calls change a world, so each caller has its own, and no call depends on those of another caller.
"""

import base64
import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import secrets
import struct
import threading
import types
import urllib.parse

PREFIXES = ("api", "ajax-api")
API2, API3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
PARALLEL = 8
# Deletes permanently.
GONE, DOOMED = "gone", "doomed"


@dataclasses.dataclass
class Answer:
    """The answer to a request."""

    status: int
    text: str
    headers: object

    def json(self):
        return json.loads(self.text)


class Client:
    """An HTTP client with one caller's credentials, and a persistent connection per thread."""

    def __init__(self, url, authorization=None, timeout=90):
        self._url = urllib.parse.urlsplit(url)
        self._authorization = authorization
        self._timeout = timeout
        self._here = threading.local()

    def _connection(self):
        if getattr(self._here, "connection", None) is None:
            self._here.connection = http.client.HTTPConnection(self._url.netloc, timeout=self._timeout)
        return self._here.connection

    def ask(self, method, path, body=None, headers=None):
        """Send a request and return the Answer, without following redirects."""
        headers = dict(headers or {})
        if self._authorization and "Authorization" not in headers:
            headers["Authorization"] = self._authorization
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                text = response.read().decode(errors="replace")
            except (http.client.HTTPException, OSError):
                connection.close()
                self._here.connection = None
                # The server may have closed the persistent connection.
                if attempt == 2:
                    raise
                continue
            return Answer(response.status, text, response.headers)
        raise AssertionError("unreachable")

    def made(self, method, path, body=None, headers=None):
        """Send a request that must succeed, and return its JSON."""
        answer = self.ask(method, path, body, headers)
        assert 200 <= answer.status < 300, f"{method} {path}: {answer.status} {answer.text[:500]}"
        return answer.json() if answer.text.strip().startswith(("{", "[")) else {}


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def together(calls):
    """Run functions in parallel and return their results; raise the first failure."""
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


def trace(experiment, plant):
    """Return the body of a trace in an experiment."""
    return {
        "trace": {
            "trace_info": {
                "trace_id": f"tr-{secrets.token_hex(16)}",
                "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
                "request_time": "2026-01-01T00:00:00Z",
                "state": "OK",
                "request_preview": plant,
                "tags": {"planted": plant},
            }
        }
    }


def spans(name, trace_id=None):
    """Return one span as an OTLP protobuf message, written by hand: https://github.com/open-telemetry/opentelemetry-proto."""

    def field(number, data):
        return bytes([number << 3 | 2, len(data)]) + data

    def fixed(number, value):
        return bytes([number << 3 | 1]) + struct.pack("<Q", value)

    span = (
        field(1, bytes.fromhex(trace_id.removeprefix("tr-")) if trace_id else secrets.token_bytes(16))
        + field(2, secrets.token_bytes(8))
        + field(5, name.encode())
    )
    span += fixed(7, 1_767_225_600_000_000_000) + fixed(8, 1_767_225_601_000_000_000)
    return field(1, field(2, field(2, span)))


class World(types.SimpleNamespace):
    """The objects of one caller's calls; the owner owns all of them.

    `label` is the prefix of all names; `plant` is a marker in content that requires READ, and in no name.

    `_doomed` objects are for calls that delete; `_gone` objects are deleted, for calls that restore.
    """


def _experiments_and_runs(w, owner):
    """Create experiments, runs and artifacts."""
    for which in ("", GONE, "gone2", DOOMED, "spare"):
        name = f"{w.label}-experiment-{which}".rstrip("-")
        made = owner.made("POST", f"{API2}/experiments/create", {"name": name, "tags": w.tags})
        setattr(w, f"experiment_{which}".rstrip("_"), made["experiment_id"])
        setattr(w, f"experiment_name_{which}".rstrip("_"), name)
    for gone in (w.experiment_gone, w.experiment_gone2):
        owner.made("POST", f"{API2}/experiments/delete", {"experiment_id": gone})

    for which in ("", GONE, "gone2", DOOMED):
        made = owner.made(
            "POST",
            f"{API2}/runs/create",
            {"experiment_id": w.experiment, "run_name": f"{w.label}-run", "start_time": 1, "tags": w.tags},
        )
        setattr(w, f"run_{which}".rstrip("_"), made["run"]["info"]["run_id"])
    for gone in (w.run_gone, w.run_gone2):
        owner.made("POST", f"{API2}/runs/delete", {"run_id": gone})
    batch = {
        "run_id": w.run,
        "metrics": [{"key": "loss", "value": 1, "timestamp": 1, "step": 1}],
        "params": [{"key": "planted", "value": w.plant}],
        "tags": [{"key": "doomed", "value": w.plant}],
    }
    owner.made("POST", f"{API2}/runs/log-batch", batch)
    owner.made(
        "POST",
        f"{API2}/experiments/set-experiment-tag",
        {
            "experiment_id": w.experiment,
            "key": "doomed",
            "value": w.plant,
        },
    )
    dataset = {"name": "planted-dataset", "digest": "1", "source_type": "local", "source": "{}"}
    owner.made("POST", f"{API2}/runs/log-inputs", {"run_id": w.run, "datasets": [{"dataset": dataset}]})
    w.artifacts = f"{w.experiment}/{w.run}/artifacts"
    for name in ("file.txt", "doomed.txt", "model/MLmodel"):
        owner.made(
            "PUT",
            f"/api/2.0/mlflow-artifacts/artifacts/{w.artifacts}/{name}",
            w.plant.encode(),
            {"Content-Type": "application/octet-stream"},
        )


def _models(w, owner):
    """Create registered models, a prompt, and logged models."""
    source = {"source": f"mlflow-artifacts:/{w.artifacts}/model", "run_id": w.run, "tags": w.tags}
    for which in ("model", "model_doomed", "model_renamed", "prompt"):
        name = f"{w.label}-{which.replace('_', '-')}"
        text = []
        if which == "prompt":
            text = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
        owner.made(
            "POST", f"{API2}/registered-models/create", {"name": name, "description": w.plant, "tags": w.tags + text}
        )
        setattr(w, which, name)
    for tag in ("doomed", "other"):
        owner.made("POST", f"{API2}/registered-models/set-tag", {"name": w.model, "key": tag, "value": w.plant})
    w.version = owner.made("POST", f"{API2}/model-versions/create", {"name": w.model, **source})["model_version"][
        "version"
    ]
    w.version_doomed = owner.made("POST", f"{API2}/model-versions/create", {"name": w.model, **source})[
        "model_version"
    ]["version"]
    owner.made(
        "POST",
        f"{API2}/model-versions/set-tag",
        {"name": w.model, "version": w.version, "key": "doomed", "value": w.plant},
    )
    for alias in ("champion", "doomed"):
        owner.made("POST", f"{API2}/registered-models/alias", {"name": w.model, "alias": alias, "version": w.version})
    prompt_tags = [
        {"key": "mlflow.prompt.is_prompt", "value": "true"},
        {"key": "mlflow.prompt.text", "value": w.plant},
    ]
    owner.made(
        "POST", f"{API2}/model-versions/create", {"name": w.prompt, "source": "dummy-source", "tags": prompt_tags}
    )

    for which in ("", DOOMED):
        made = owner.made(
            "POST",
            f"{API2}/logged-models",
            {"experiment_id": w.experiment, "name": f"{w.label}-logged", "source_run_id": w.run, "tags": w.tags},
        )
        setattr(w, f"logged_{which}".rstrip("_"), made["model"]["info"]["model_id"])
        setattr(w, f"logged_artifacts_{which}".rstrip("_"), made["model"]["info"]["artifact_uri"])
    owner.made("PATCH", f"{API2}/logged-models/{w.logged}/tags", {"tags": [{"key": "doomed", "value": w.plant}]})
    logged = w.logged_artifacts.removeprefix("mlflow-artifacts:/")
    owner.made(
        "PUT",
        f"/api/2.0/mlflow-artifacts/artifacts/{logged}/file.txt",
        w.plant.encode(),
        {"Content-Type": "application/octet-stream"},
    )


def _traces(w, owner):
    """Create traces and assessments."""
    for which in ("trace", "trace_doomed", "trace_doomed3"):
        made = owner.made("POST", f"{API3}/traces", trace(w.experiment, w.plant))["trace"]["trace_info"]
        setattr(w, which, made["trace_id"])
    owner.made(
        "POST",
        "/v1/traces",
        spans(w.plant, w.trace),
        {
            "Content-Type": "application/x-protobuf",
            "X-Mlflow-Experiment-Id": w.experiment,
        },
    )
    old = owner.made(
        "POST",
        f"{API2}/traces",
        {
            "experiment_id": w.experiment,
            "timestamp_ms": 1,
            "tags": w.tags,
            "request_metadata": [],
        },
    )
    w.trace_old = old["trace_info"]["request_id"]
    for tag in ("doomed", "doomed3"):
        owner.made("PATCH", f"{API3}/traces/{w.trace}/tags", {"key": tag, "value": w.plant})
    for which in ("assessment", "assessment_doomed"):
        made = owner.made("POST", f"{API3}/traces/{w.trace}/assessments", assessment(w, w.plant))
        setattr(w, which, made["assessment"]["assessment_id"])


def _reviews(w, owner, members):
    """Create datasets, scorers, label schemas, review queues and issues."""
    for which in ("dataset", "dataset_doomed"):
        made = owner.made(
            "POST",
            f"{API3}/datasets/create",
            {
                "name": f"{w.label}-{which.replace('_', '-')}",
                "experiment_ids": [w.experiment],
                "tags": json.dumps({"planted": w.plant, "doomed": w.plant}),
            },
        )
        setattr(w, which, made["dataset"]["dataset_id"])
    owner.made("POST", f"{API3}/datasets/{w.dataset}/records", {"records": records(w.plant)})
    made = owner.made("GET", f"{API3}/datasets/{w.dataset}/records")
    w.record = json.loads(made["records"])[0]["dataset_record_id"]

    for which in ("scorer", "scorer_doomed"):
        name = f"{w.label}-{which.replace('_', '-')}"
        made = owner.made("POST", f"{API3}/scorers/register", scorer(w, name, w.plant))
        setattr(w, which, name)
        setattr(w, f"{which}_id", made["scorer_id"])
    owner.made(
        "PUT",
        f"{API3}/scorers/online-config",
        {"experiment_id": w.experiment, "name": w.scorer, "sample_rate": 0.0},
    )
    for which in ("schema", "schema_doomed"):
        name = f"{w.label}-{which.replace('_', '-')}"
        made = owner.made("POST", f"{API3}/label-schemas/create", label_schema(w, name, w.plant))
        setattr(w, which, made["schema"]["schema_id"] if "schema" in made else made["label_schema"]["schema_id"])
    w.schema_name = f"{w.label}-schema"
    for which in ("queue", "queue_doomed"):
        name = f"{w.label}-{which.replace('_', '-')}"
        made = owner.made(
            "POST",
            f"{API3}/review-queues/create",
            {
                "experiment_id": w.experiment,
                "name": name,
                "queue_type": "CUSTOM",
                "schema_ids": [w.schema],
                "users": members,
            },
        )
        setattr(w, which, (made.get("review_queue") or made.get("queue"))["queue_id"])
    w.queue_name = f"{w.label}-queue"
    owner.made(
        "POST",
        f"{API3}/review-queues/items/add",
        {"queue_id": w.queue, "item_type": "TRACE", "item_ids": [w.trace]},
    )
    made = owner.made("POST", f"{API3}/issues", issue(w, w.plant))
    w.issue = made["issue"]["issue_id"]


def _gateway(w, owner):
    """Create secrets, model definitions and endpoints of the gateway."""
    for which in ("", DOOMED, "spare"):
        end = f"-{which}".rstrip("-")
        under = f"_{which}".rstrip("_")
        made = owner.made("POST", f"{API3}/gateway/secrets/create", gateway_secret(f"{w.label}-secret{end}"))
        setattr(w, f"secret{under}", made["secret"]["secret_id"])
        setattr(w, f"secret_name{under}", f"{w.label}-secret{end}")
        made = owner.made(
            "POST",
            f"{API3}/gateway/model-definitions/create",
            {"name": f"{w.label}-definition{end}", "secret_id": w.secret, "provider": "openai", "model_name": "gpt-4o"},
        )
        setattr(w, f"definition{under}", made["model_definition"]["model_definition_id"])
        setattr(w, f"definition_name{under}", f"{w.label}-definition{end}")
        made = owner.made(
            "POST",
            f"{API3}/gateway/endpoints/create",
            {"name": f"{w.label}-endpoint{end}", "model_configs": [primary(w.definition)]},
        )
        setattr(w, f"endpoint{under}", made["endpoint"]["endpoint_id"])
        setattr(w, f"endpoint_name{under}", f"{w.label}-endpoint{end}")
    owner.made(
        "POST", f"{API3}/gateway/endpoints/set-tag", {"endpoint_id": w.endpoint, "key": "doomed", "value": w.plant}
    )


def _servers(w, owner, admin, share):
    """Create MCP servers, which only administrators can do."""
    for which in ("server", "server_doomed"):
        name = f"matrix/{w.label}-{which.replace('_', '-')}"
        admin.made("POST", f"{API3}/mcp-servers", {"name": name, "description": w.plant})
        share("mcp_server", name)
        setattr(w, which, name)
    at = f"{API3}/mcp-servers/{w.server}"
    for version, status in (("1.0.0", "active"), ("2.0.0", "draft")):
        owner.made(
            "POST",
            f"{at}/versions",
            {"server_json": {"name": w.server, "version": version, "description": w.plant}, "status": status},
        )
    owner.made("POST", f"{at}/tags", {"key": "doomed", "value": w.plant})
    owner.made("POST", f"{at}/versions/1.0.0/tags", {"key": "doomed", "value": w.plant})
    for alias in ("stable", "doomed"):
        owner.made("POST", f"{at}/aliases", {"alias": alias, "version": "1.0.0"})
    for which in ("access", "access_doomed"):
        made = owner.made("POST", f"{at}/endpoints", {"server_version": "1.0.0", "url": f"https://example.com/{which}"})
        setattr(w, which, made["id"])


def _administration(w, admin):
    """Create what only administrators can create."""
    for which in ("webhook", "webhook_doomed", "webhook_doomed2"):
        made = admin.made("POST", f"{API2}/webhooks", webhook(f"{w.label}-{which.replace('_', '-')}"))
        setattr(w, which, made["webhook"]["webhook_id"])
    for which in ("budget", "budget_doomed"):
        made = admin.made("POST", f"{API3}/gateway/budgets/create", budget())
        setattr(w, which, made["budget_policy"]["budget_policy_id"])
    for which in ("guardrail", "guardrail_doomed"):
        made = admin.made("POST", f"{API3}/gateway/guardrails/create", guardrail(w, f"{w.label}-{which}"))
        setattr(w, which, made["guardrail"]["guardrail_id"])
    admin.made(
        "POST",
        f"{API3}/gateway/guardrails/add-to-endpoint",
        {"endpoint_id": w.endpoint, "guardrail_id": w.guardrail, "execution_order": 1},
    )


def make_world(label, owner, admin, *, share, members):
    """Create a world.

    Args:
        label: a unique prefix of all names.
        owner: the Client of the owner.
        admin: the Client of an administrator.
        share: grants the owner MANAGE on objects that only administrators can create, by kind and name.
        members: the names of the reviewers.
    """
    plant = f"planted-{label}"
    w = World(label=label, plant=plant, tags=[{"key": "planted", "value": plant}], turn="")
    _experiments_and_runs(w, owner)
    _models(w, owner)
    _traces(w, owner)
    _reviews(w, owner, members)
    _gateway(w, owner)
    _servers(w, owner, admin, share)
    _administration(w, admin)
    return w


def primary(definition):
    return {"model_definition_id": definition, "linkage_type": "PRIMARY", "weight": 1}


def assessment(w, plant):
    return {
        "assessment": {
            "assessment_name": "quality",
            "trace_id": w.trace,
            "source": {"source_type": "HUMAN", "source_id": "matrix"},
            "feedback": {"value": 1},
            "rationale": plant,
        }
    }


def records(plant):
    return json.dumps([{"inputs": {"question": plant}, "expectations": {}, "tags": {}}])


def scorer(w, name, plant):
    serialized = json.dumps(
        {
            "name": name,
            "mlflow_version": "3.17.2",
            "serialization_version": 1,
            "instructions_judge_pydantic_data": {
                "instructions": f"Is {{{{ outputs }}}} right? {plant}",
                "model": "openai:/gpt-4o",
            },
        }
    )
    return {"experiment_id": w.experiment, "name": name, "serialized_scorer": serialized}


def label_schema(w, name, plant):
    return {
        "experiment_id": w.experiment,
        "name": name,
        "type": "FEEDBACK",
        "instruction": plant,
        "input": {"pass_fail": {"positive_label": "yes", "negative_label": "no"}},
    }


def issue(w, plant):
    return {
        "experiment_id": w.experiment,
        "name": "slow",
        "description": plant,
        "status": "pending",
        "severity": "low",
        "source_run_id": w.run,
    }


def gateway_secret(name):
    return {
        "secret_name": name,
        "secret_value": {"api_key": "planted-key"},
        "provider": "openai",
    }


def webhook(name):
    return {
        "name": name,
        "url": "https://234.0.0.1/hook",
        "status": "DISABLED",
        "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}],
    }


def budget():
    return {
        "budget_unit": "USD",
        "budget_amount": 1000,
        "duration": {"unit": "DAYS", "value": 1},
        "target_scope": "GLOBAL",
        "budget_action": "ALERT",
    }


def guardrail(w, name):
    return {
        "name": name,
        "scorer_id": w.scorer_id,
        "scorer_version": 1,
        "stage": "BEFORE",
        "action": "VALIDATION",
    }


def own(w):
    """The prefix of objects that the caller of a world creates, which the caller may see."""
    return f"own-{w.label.removeprefix('matrix-')}"


def clear(worlds, admin):
    """Remove what is left of the worlds."""

    def one(w):
        for name in ("webhook", "webhook_doomed", "webhook_doomed2"):
            with contextlib.suppress(AttributeError):
                admin.ask("DELETE", f"{API2}/webhooks/{getattr(w, name)}")
        for what, key, names in (
            ("budgets", "budget_policy_id", ("budget", "budget_doomed")),
            ("endpoints", "endpoint_id", ("endpoint", "endpoint_doomed", "endpoint_spare")),
            ("guardrails", "guardrail_id", ("guardrail", "guardrail_doomed")),
            ("model-definitions", "model_definition_id", ("definition", "definition_doomed", "definition_spare")),
            ("secrets", "secret_id", ("secret", "secret_doomed", "secret_spare")),
        ):
            for name in names:
                with contextlib.suppress(AttributeError):
                    admin.ask("DELETE", f"{API3}/gateway/{what}/delete", {key: getattr(w, name)})
        for name in ("server", "server_doomed"):
            with contextlib.suppress(AttributeError):
                admin.ask("DELETE", f"{API3}/mcp-servers/{getattr(w, name)}")
        for end in ("model", "model-doomed", "model-renamed", "model-other", "prompt"):
            admin.ask("DELETE", f"{API2}/registered-models/delete", {"name": f"{w.label}-{end}"})
        for end in ("new", "new2"):
            admin.ask("DELETE", f"{API2}/registered-models/delete", {"name": f"{own(w)}-{end}"})
        for name in ("experiment", "experiment_gone", "experiment_gone2", "experiment_doomed", "experiment_spare"):
            with contextlib.suppress(AttributeError):
                admin.ask("POST", f"{API2}/experiments/delete", {"experiment_id": getattr(w, name)})
        # A gateway endpoint has an experiment of its own.
        for name in (f"gateway/{w.label}%", f"{w.label}%", f"gateway/{own(w)}%", f"{own(w)}%"):
            named = {"filter": f"name LIKE '{name}'", "max_results": 100}
            found = admin.ask("POST", f"{API2}/experiments/search", named)
            for each in found.json().get("experiments", []) if found.status == 200 else []:
                admin.ask("POST", f"{API2}/experiments/delete", {"experiment_id": each["experiment_id"]})

    together([lambda w=w: one(w) for w in worlds])
