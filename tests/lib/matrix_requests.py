"""A valid request for each route: the objects that it names exist and belong to the world's owner."""

import dataclasses
import json
import urllib.parse

from tests.lib import matrix_world as worlds


@dataclasses.dataclass
class Ask:
    """A request without its route.

    Attributes:
        at: values of the path's parameters.
        query: the query string's fields.
        body: JSON, or bytes.
        headers: further headers.
    """

    at: dict = dataclasses.field(default_factory=dict)
    query: dict | None = None
    body: object = None
    headers: dict = dataclasses.field(default_factory=dict)

    def path(self, pattern, others):
        """Return the path of a route's pattern, with `others` for parameters that are not in `at`."""

        def value(part):
            name = part.strip("{}<>").rpartition(":")[2] if part[0] == "<" else part.strip("{}").partition(":")[0]
            return urllib.parse.quote(str(self.at.get(name, others.get(name, "matrix"))), safe="/:@")

        built, rest = "", pattern
        while rest:
            begin = min((found for found in (rest.find("{"), rest.find("<")) if found >= 0), default=-1)
            if begin < 0:
                return built + rest + self._query()
            end = rest.find("}" if rest[begin] == "{" else ">", begin)
            built += rest[:begin] + value(rest[begin : end + 1])
            rest = rest[end + 1 :]
        return built + self._query()

    def _query(self):
        return "?" + urllib.parse.urlencode(self.query, doseq=True) if self.query else ""


def q(**fields):
    return Ask(query=fields)


def j(**fields):
    return Ask(body=fields)


def at(_body=None, _query=None, **values):
    return Ask(at=values, body=_body, query=_query)


RAW = {"Content-Type": "application/octet-stream"}


def of(w):
    """Return the requests of a world by the keys of their routes."""
    own = worlds.own(w)
    new = f"{own}-new{w.turn}"
    experiment, run, model = {"experiment_id": w.experiment}, {"run_id": w.run}, {"name": w.model}
    version = {"name": w.model, "version": w.version}
    file = f"{w.artifacts}/file.txt"
    planted = w.plant
    table = {
        # Experiments
        "POST 2/experiments/create": j(name=new),
        "GET 2/experiments/search": q(max_results=50000),
        "POST 2/experiments/search": j(max_results=50000),
        "GET 2/experiments/get": q(**experiment),
        "GET 2/experiments/get-by-name": q(experiment_name=w.experiment_name),
        "POST 2/experiments/update": j(experiment_id=w.experiment_spare, new_name=f"{w.label}-renamed"),
        "POST 2/experiments/set-experiment-tag": j(**experiment, key="mine", value="1"),
        "POST 2/experiments/delete-experiment-tag": j(**experiment, key="doomed"),
        "POST 2/experiments/delete": j(experiment_id=w.experiment_doomed),
        "POST 2/experiments/restore": j(experiment_id=w.experiment_gone),
        "POST 2/experiments/search-datasets": j(experiment_ids=[w.experiment]),
        "POST /api/2.0mlflow/experiments/search-datasets": j(experiment_ids=[w.experiment]),
        "POST /ajax-api/2.0mlflow/experiments/search-datasets": j(experiment_ids=[w.experiment]),
        # Runs
        "POST 2/runs/create": j(**experiment, run_name=new, start_time=1),
        "POST 2/runs/update": j(**run, run_name="renamed"),
        "POST 2/runs/delete": j(run_id=w.run_doomed),
        "POST 2/runs/restore": j(run_id=w.run_gone),
        "POST 2/runs/log-metric": j(**run, key="mine", value=1, timestamp=1, step=1),
        "POST 2/runs/log-parameter": j(**run, key="mine", value="1"),
        "POST 2/runs/set-tag": j(**run, key="mine", value="1"),
        "POST 2/runs/delete-tag": j(**run, key="doomed"),
        "POST 2/runs/log-batch": j(**run, metrics=[{"key": "more", "value": 1, "timestamp": 1, "step": 1}]),
        "POST 2/runs/log-model": j(
            **run,
            model_json=json.dumps(
                {
                    "artifact_path": "m",
                    "flavors": {},
                    "run_id": w.run,
                    "model_uuid": "1",
                    "utc_time_created": "2026-01-01 00:00:00.000000",
                }
            ),
        ),
        "POST 2/runs/log-inputs": j(
            **run, datasets=[{"dataset": {"name": "mine", "digest": "1", "source_type": "local", "source": "{}"}}]
        ),
        "POST 2/runs/outputs": j(**run, models=[{"model_id": w.logged, "step": 1}]),
        "GET 2/runs/get": q(**run),
        "POST 2/runs/search": j(experiment_ids=[w.experiment]),
        "POST 2/runs/create-promptlab-run": j(
            **experiment,
            prompt_template="x {{ a }}",
            prompt_parameters=[{"key": "a", "value": "1"}],
            model_route="route",
            model_input="x 1",
            mlflow_version="3.17.2",
            run_name=new,
        ),
        "GET 2/metrics/get-history": q(**run, metric_key="loss"),
        "GET 2/metrics/get-history-bulk": q(run_id=[w.run], metric_key="loss"),
        "GET 2/metrics/get-history-bulk-interval": q(run_ids=[w.run], metric_key="loss", max_results=10),
        # Artifacts
        "GET 2/artifacts/list": q(**run),
        "POST 2/artifacts/presigned-upload-url": j(**run, path="mine.txt"),
        "POST 2/artifacts/presigned-download-url": j(**run, path="file.txt"),
        "GET /get-artifact": q(run_uuid=w.run, path="file.txt"),
        "GET /model-versions/get-artifact": q(**version, path="MLmodel"),
        "POST 2/upload-artifact": Ask(query={"run_uuid": w.run, "path": "mine.txt"}, body=b"mine", headers=RAW),
        "GET 2-artifacts/artifacts": q(path=w.artifacts),
        "GET 2-artifacts/artifacts/{artifact_path}": at(artifact_path=file),
        "PUT 2-artifacts/artifacts/{artifact_path}": Ask(
            at={"artifact_path": f"{w.artifacts}/mine.txt"}, body=b"mine", headers=RAW
        ),
        "DELETE 2-artifacts/artifacts/{artifact_path}": at(artifact_path=f"{w.artifacts}/doomed.txt"),
        "POST 2-artifacts/mpu/create/{artifact_path}": at(
            artifact_path=f"{w.artifacts}/big", _body={"path": f"{w.artifacts}/big", "num_parts": 1}
        ),
        "POST 2-artifacts/mpu/complete/{artifact_path}": at(
            artifact_path=f"{w.artifacts}/big",
            _body={"path": f"{w.artifacts}/big", "upload_id": "1", "parts": [{"part_number": 1, "etag": "1"}]},
        ),
        "POST 2-artifacts/mpu/abort/{artifact_path}": at(
            artifact_path=f"{w.artifacts}/big", _body={"path": f"{w.artifacts}/big", "upload_id": "1"}
        ),
        "GET 2-artifacts/presigned/{artifact_path}": at(artifact_path=file),
        # Traces
        "POST 2/traces": j(**experiment, timestamp_ms=1, request_metadata=[], tags=[]),
        "GET 2/traces": q(experiment_ids=[w.experiment]),
        "PATCH 2/traces/{request_id}": at(
            request_id=w.trace_old, _body={"timestamp_ms": 2, "status": "OK", "request_metadata": [], "tags": []}
        ),
        "GET 2/traces/{request_id}/info": at(request_id=w.trace_old),
        "PATCH 2/traces/{request_id}/tags": at(request_id=w.trace, _body={"key": "mine", "value": "1"}),
        "DELETE 2/traces/{request_id}/tags": at(request_id=w.trace, _body={"key": "doomed"}),
        "POST 2/traces/link-to-run": j(**run, trace_ids=[w.trace]),
        "POST 2/traces/link-prompts": j(trace_id=w.trace, prompt_versions=[{"name": w.prompt, "version": "1"}]),
        "POST 2/traces/delete-traces": j(**experiment, request_ids=[w.trace_doomed]),
        "POST 3/traces/delete-traces": j(**experiment, request_ids=[w.trace_doomed3]),
        "POST 3/traces": Ask(body=worlds.trace(w.experiment, "mine")),
        "GET 3/traces/{trace_id}": at(trace_id=w.trace),
        "GET 3/traces/get": q(trace_id=w.trace),
        "GET 3/traces/batchGet": q(trace_ids=[w.trace]),
        "POST 3/traces/batchGetInfos": j(trace_ids=[w.trace]),
        "POST 3/traces/search": j(
            locations=[{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": w.experiment}}]
        ),
        "POST 3/traces/calculate-filter-correlation": j(
            experiment_ids=[w.experiment], filter_string1="trace.status = 'OK'", filter_string2="trace.status = 'OK'"
        ),
        "POST 3/traces/metrics": j(
            experiment_ids=[w.experiment],
            view_type="TRACES",
            metric_name="trace_count",
            aggregations=[{"aggregation_type": "COUNT"}],
        ),
        "PATCH 3/traces/{trace_id}/tags": at(trace_id=w.trace, _body={"key": "mine", "value": "1"}),
        "DELETE 3/traces/{trace_id}/tags": at(trace_id=w.trace, _body={"key": "doomed3"}),
        "POST 3/traces/{trace_id}/assessments": at(trace_id=w.trace, _body=worlds.assessment(w, "mine")),
        "GET 3/traces/{trace_id}/assessments/{assessment_id}": at(trace_id=w.trace, assessment_id=w.assessment),
        "PATCH 3/traces/{trace_id}/assessments/{assessment_id}": at(
            trace_id=w.trace,
            assessment_id=w.assessment,
            _body={**worlds.assessment(w, "mine"), "update_mask": "rationale"},
        ),
        "DELETE 3/traces/{trace_id}/assessments/{assessment_id}": at(
            trace_id=w.trace, assessment_id=w.assessment_doomed
        ),
        "GET 3/get-trace-artifact": q(request_id=w.trace),
        "GET 2/get-trace-artifact": q(request_id=w.trace),
        "GET 2/unified-traces": q(experiment_ids=[w.experiment]),
        "GET 2/get-online-trace-details": q(trace_id=w.trace),
        "POST /v1/traces": Ask(
            body=worlds.spans("mine"),
            headers={"Content-Type": "application/x-protobuf", "X-Mlflow-Experiment-Id": w.experiment},
        ),
        # Logged models
        "POST 2/logged-models": j(**experiment, name=new),
        "PATCH 2/logged-models/{model_id}": at(
            model_id=w.logged, _body={"model_id": w.logged, "status": "LOGGED_MODEL_READY"}
        ),
        "GET 2/logged-models/{model_id}": at(model_id=w.logged),
        "DELETE 2/logged-models/{model_id}": at(model_id=w.logged_doomed),
        "POST 2/logged-models/search": j(experiment_ids=[w.experiment]),
        "PATCH 2/logged-models/{model_id}/tags": at(model_id=w.logged, _body={"tags": [{"key": "a", "value": "1"}]}),
        "DELETE 2/logged-models/{model_id}/tags/{tag_key}": at(model_id=w.logged, tag_key="doomed"),
        "GET 2/logged-models/{model_id}/artifacts/directories": at(model_id=w.logged),
        "GET 2/logged-models/{model_id}/artifacts/files": at(
            model_id=w.logged, _query={"artifact_file_path": "file.txt"}
        ),
        "POST 2/logged-models/{model_id}/params": at(
            model_id=w.logged, _body={"model_id": w.logged, "params": [{"key": "a", "value": "1"}]}
        ),
        # Registered models
        "POST 2/registered-models/create": j(name=new),
        "POST 2/registered-models/rename": j(name=w.model_renamed, new_name=f"{w.label}-model-other"),
        "PATCH 2/registered-models/update": j(**model, description="mine"),
        "DELETE 2/registered-models/delete": j(name=w.model_doomed),
        "GET 2/registered-models/get": q(**model),
        "GET 2/registered-models/search": q(max_results=1000),
        "GET 2/registered-models/get-latest-versions": q(**model),
        "POST 2/registered-models/get-latest-versions": j(**model),
        "POST 2/registered-models/set-tag": j(**model, key="mine", value="1"),
        "DELETE 2/registered-models/delete-tag": j(**model, key="doomed"),
        "POST 2/registered-models/alias": j(**model, alias="mine", version=w.version),
        "GET 2/registered-models/alias": q(**model, alias="champion"),
        "DELETE 2/registered-models/alias": j(**model, alias="doomed"),
        "POST 2/model-versions/create": j(**model, source=f"mlflow-artifacts:/{w.artifacts}/model", run_id=w.run),
        "PATCH 2/model-versions/update": j(**version, description="mine"),
        "POST 2/model-versions/transition-stage": j(**version, stage="Staging", archive_existing_versions=False),
        "DELETE 2/model-versions/delete": j(name=w.model, version=w.version_doomed),
        "GET 2/model-versions/get": q(**version),
        "GET 2/model-versions/search": q(max_results=1000),
        "GET 2/model-versions/get-download-uri": q(**version),
        "POST 2/model-versions/set-tag": j(**version, key="mine", value="1"),
        "DELETE 2/model-versions/delete-tag": j(**version, key="doomed"),
        # Datasets, scorers, labels, reviews, issues
        "POST 3/datasets/create": j(name=new, experiment_ids=[w.experiment]),
        "GET 3/datasets/{dataset_id}": at(dataset_id=w.dataset),
        "DELETE 3/datasets/{dataset_id}": at(dataset_id=w.dataset_doomed),
        "POST 3/datasets/search": j(experiment_ids=[w.experiment]),
        "GET 3/datasets/search": q(experiment_ids=[w.experiment]),
        "PATCH 3/datasets/{dataset_id}/tags": at(dataset_id=w.dataset, _body={"tags": json.dumps({"mine": "1"})}),
        "DELETE 3/datasets/{dataset_id}/tags/{key}": at(dataset_id=w.dataset, key="doomed"),
        "POST 3/datasets/{dataset_id}/records": at(dataset_id=w.dataset, _body={"records": worlds.records("mine")}),
        "GET 3/datasets/{dataset_id}/records": at(dataset_id=w.dataset),
        "DELETE 3/datasets/{dataset_id}/records": at(dataset_id=w.dataset, _body={"dataset_record_ids": [w.record]}),
        "GET 3/datasets/{dataset_id}/experiment-ids": at(dataset_id=w.dataset),
        "POST 3/datasets/{dataset_id}/add-experiments": at(
            dataset_id=w.dataset, _body={"experiment_ids": [w.experiment_spare]}
        ),
        "POST 3/datasets/{dataset_id}/remove-experiments": at(
            dataset_id=w.dataset, _body={"experiment_ids": [w.experiment_spare]}
        ),
        "POST 3/scorers/register": Ask(body=worlds.scorer(w, f"{own}-scorer-new{w.turn}", "mine")),
        "GET 3/scorers/list": q(**experiment),
        "GET 3/scorers/versions": q(**experiment, name=w.scorer),
        "GET 3/scorers/get": q(**experiment, name=w.scorer),
        "DELETE 3/scorers/delete": j(**experiment, name=w.scorer_doomed),
        "PUT 3/scorers/online-config": j(**experiment, name=w.scorer, sample_rate=0.0),
        "GET 3/scorers/online-configs": q(scorer_ids=[w.scorer_id]),
        "POST 3/scorer/invoke": j(**experiment, serialized_scorer="{}", trace_ids=[w.trace]),
        "POST 3/issues": Ask(body=worlds.issue(w, "mine")),
        "GET 3/issues/{issue_id}": at(issue_id=w.issue),
        "PATCH 3/issues/{issue_id}": at(issue_id=w.issue, _body={"issue_id": w.issue, "status": "resolved"}),
        "POST 3/issues/search": j(**experiment),
        "POST 3/issues/invoke": j(
            **experiment, trace_ids=[w.trace], categories=["slow"], provider="openai", model="gpt-4o"
        ),
        "POST 3/genai/evaluate/invoke": j(**experiment, trace_ids=[w.trace], serialized_scorers=["{}"]),
        "POST 3/label-schemas/create": Ask(body=worlds.label_schema(w, f"{own}-schema-new{w.turn}", "mine")),
        "GET 3/label-schemas/get": q(schema_id=w.schema),
        "GET 3/label-schemas/get-by-name": q(**experiment, name=w.schema_name),
        "GET 3/label-schemas/list": q(**experiment),
        "PATCH 3/label-schemas/update": j(schema_id=w.schema, instruction="mine"),
        "DELETE 3/label-schemas/delete": j(schema_id=w.schema_doomed),
        "POST 3/review-queues/create": j(**experiment, name=f"{own}-queue-new{w.turn}", queue_type="CUSTOM"),
        "POST 3/review-queues/get-or-create-user": j(**experiment, user=w.caller),
        "GET 3/review-queues/get": q(queue_id=w.queue),
        "GET 3/review-queues/get-by-name": q(**experiment, name=w.queue_name),
        "GET 3/review-queues/list": q(**experiment),
        "POST 3/review-queues/update": j(queue_id=w.queue, name=f"{w.queue_name}-2"),
        "POST 3/review-queues/delete": j(queue_id=w.queue_doomed),
        "POST 3/review-queues/items/add": j(queue_id=w.queue, item_type="TRACE", item_ids=[w.trace]),
        "GET 3/review-queues/items/list": q(queue_id=w.queue),
        "POST 3/review-queues/items/set-status": j(
            queue_id=w.queue, item_id=w.trace, status="COMPLETE", completed_by=w.caller
        ),
        "POST 3/review-queues/items/remove": j(queue_id=w.queue, item_ids=[w.trace]),
        # The gateway
        "POST 3/gateway/secrets/create": Ask(body=worlds.gateway_secret(f"{own}-secret-new{w.turn}")),
        "GET 3/gateway/secrets/get": q(secret_id=w.secret),
        "POST 3/gateway/secrets/update": j(secret_id=w.secret, secret_value={"api_key": "other"}),
        "DELETE 3/gateway/secrets/delete": j(secret_id=w.secret_doomed),
        "GET 3/gateway/secrets/list": Ask(),
        "POST 3/gateway/model-definitions/create": j(
            name=f"{own}-definition-new{w.turn}", secret_id=w.secret, provider="openai", model_name="gpt-4o"
        ),
        "GET 3/gateway/model-definitions/get": q(model_definition_id=w.definition),
        "GET 3/gateway/model-definitions/list": Ask(),
        "POST 3/gateway/model-definitions/update": j(model_definition_id=w.definition, model_name="gpt-4"),
        "DELETE 3/gateway/model-definitions/delete": j(model_definition_id=w.definition_doomed),
        "POST 3/gateway/endpoints/create": j(
            name=f"{own}-endpoint-new{w.turn}", model_configs=[worlds.primary(w.definition)]
        ),
        "GET 3/gateway/endpoints/get": q(endpoint_id=w.endpoint),
        "POST 3/gateway/endpoints/update": j(endpoint_id=w.endpoint, usage_tracking=False),
        "DELETE 3/gateway/endpoints/delete": j(endpoint_id=w.endpoint_doomed),
        "GET 3/gateway/endpoints/list": Ask(),
        "POST 3/gateway/endpoints/models/attach": j(
            endpoint_id=w.endpoint, model_config=worlds.primary(w.definition_spare)
        ),
        "POST 3/gateway/endpoints/models/detach": j(endpoint_id=w.endpoint, model_definition_id=w.definition_spare),
        "POST 3/gateway/endpoints/bindings/create": j(
            endpoint_id=w.endpoint, resource_type="scorer", resource_id=w.scorer_id
        ),
        "DELETE 3/gateway/endpoints/bindings/delete": j(
            endpoint_id=w.endpoint, resource_type="scorer", resource_id=w.scorer_id
        ),
        "GET 3/gateway/endpoints/bindings/list": q(endpoint_id=w.endpoint),
        "POST 3/gateway/endpoints/set-tag": j(endpoint_id=w.endpoint, key="mine", value="1"),
        "DELETE 3/gateway/endpoints/delete-tag": j(endpoint_id=w.endpoint, key="doomed"),
        "GET 3/gateway/supported-providers": Ask(),
        "GET 3/gateway/supported-models": q(provider="openai"),
        "GET 3/gateway/provider-config": q(provider="openai"),
        "GET 3/gateway/secrets/config": Ask(),
        "GET 2/gateway-proxy": q(gateway_path="api/2.0/endpoints/"),
        "POST 2/gateway-proxy": j(gateway_path="gateway/x/invocations", json_data={}),
        "POST 3/gateway/budgets/create": Ask(body=worlds.budget()),
        "GET 3/gateway/budgets/get": q(budget_policy_id=w.budget),
        "POST 3/gateway/budgets/update": j(budget_policy_id=w.budget, budget_amount=2000),
        "DELETE 3/gateway/budgets/delete": j(budget_policy_id=w.budget_doomed),
        "GET 3/gateway/budgets/list": Ask(),
        "GET 3/gateway/budgets/windows": Ask(),
        "POST 3/gateway/guardrails/create": Ask(body=worlds.guardrail(w, f"{w.label}-guardrail-new")),
        "GET 3/gateway/guardrails/get": q(guardrail_id=w.guardrail),
        "DELETE 3/gateway/guardrails/delete": j(guardrail_id=w.guardrail_doomed),
        "GET 3/gateway/guardrails/list": Ask(),
        "POST 3/gateway/guardrails/add-to-endpoint": j(
            endpoint_id=w.endpoint_spare, guardrail_id=w.guardrail, execution_order=1
        ),
        "DELETE 3/gateway/guardrails/remove-from-endpoint": j(endpoint_id=w.endpoint_spare, guardrail_id=w.guardrail),
        "GET 3/gateway/guardrails/list-for-endpoint": q(endpoint_id=w.endpoint),
        "PATCH 3/gateway/guardrails/update-config": j(
            endpoint_id=w.endpoint, guardrail_id=w.guardrail, execution_order=2
        ),
        "POST /gateway/{endpoint_name}/mlflow/invocations": at(
            endpoint_name=w.endpoint_name, _body={"messages": [{"role": "user", "content": "x"}]}
        ),
        "GET /gateway/mlflow/v1/models": Ask(),
        "POST /gateway/proxy/{endpoint_name}/{path}": at(endpoint_name=w.endpoint_name, path="models", _body={}),
        # MCP servers
        "POST 3/mcp-servers": j(name=f"matrix/{own}-server-new"),
        "GET 3/mcp-servers": Ask(),
        "GET 3/mcp-servers/endpoints": Ask(),
        "GET 3/mcp-servers/{name}": at(name=w.server),
        "PATCH 3/mcp-servers/{name}": at(name=w.server, _body={"description": "mine"}),
        "DELETE 3/mcp-servers/{name}": at(name=w.server_doomed),
        "POST 3/mcp-servers/{name}/versions": at(
            name=w.server, _body={"server_json": {"name": w.server, "version": "3.0.0"}}
        ),
        "GET 3/mcp-servers/{name}/versions": at(name=w.server),
        "GET 3/mcp-servers/{name}/versions/{version}": at(name=w.server, version="1.0.0"),
        "PATCH 3/mcp-servers/{name}/versions/{version}": at(
            name=w.server, version="1.0.0", _body={"status": "deprecated"}
        ),
        "DELETE 3/mcp-servers/{name}/versions/{version}": at(name=w.server, version="2.0.0"),
        "POST 3/mcp-servers/{name}/versions/{version}/tags": at(
            name=w.server, version="1.0.0", _body={"key": "mine", "value": "1"}
        ),
        "DELETE 3/mcp-servers/{name}/versions/{version}/tags/{key}": at(name=w.server, version="1.0.0", key="doomed"),
        "POST 3/mcp-servers/{name}/endpoints": at(
            name=w.server, _body={"server_version": "1.0.0", "url": "https://example.com/new"}
        ),
        "GET 3/mcp-servers/{name}/endpoints": at(name=w.server),
        "GET 3/mcp-servers/{name}/endpoints/{endpoint_id}": at(name=w.server, endpoint_id=w.access),
        "PATCH 3/mcp-servers/{name}/endpoints/{endpoint_id}": at(
            name=w.server, endpoint_id=w.access, _body={"url": "https://example.com/other"}
        ),
        "DELETE 3/mcp-servers/{name}/endpoints/{endpoint_id}": at(name=w.server, endpoint_id=w.access_doomed),
        "POST 3/mcp-servers/{name}/tags": at(name=w.server, _body={"key": "mine", "value": "1"}),
        "DELETE 3/mcp-servers/{name}/tags/{key}": at(name=w.server, key="doomed"),
        "POST 3/mcp-servers/{name}/aliases": at(name=w.server, _body={"alias": "mine", "version": "1.0.0"}),
        "GET 3/mcp-servers/{name}/aliases/{alias}": at(name=w.server, alias="stable"),
        "DELETE 3/mcp-servers/{name}/aliases/{alias}": at(name=w.server, alias="doomed"),
        # Jobs, which the role disables
        "POST 3/prompt-optimization/jobs": j(
            **experiment, source_prompt_uri=f"prompts:/{w.prompt}/1", config={"optimizer_type": 1}
        ),
        "GET 3/prompt-optimization/jobs/{job_id}": at(job_id="none"),
        "DELETE 3/prompt-optimization/jobs/{job_id}": at(job_id="none"),
        "POST 3/prompt-optimization/jobs/{job_id}/cancel": at(job_id="none", _body={}),
        "GET 3/prompt-optimization/jobs/search": q(**experiment),
        "POST 3/prompt-optimization/jobs/search": j(**experiment),
        "GET 3/jobs/{job_id}": at(job_id="none"),
        "PATCH 3/jobs/cancel/{job_id}": at(job_id="none", _body={}),
        "GET /ajax-api/3.0/jobs/{job_id}": at(job_id="none"),
        "PATCH /ajax-api/3.0/jobs/cancel/{job_id}": at(job_id="none", _body={}),
        "POST /ajax-api/3.0/jobs/": j(job_name="invoke_scorer", params=experiment),
        "POST /ajax-api/3.0/jobs/search": j(),
        "GET /graphql": q(query='{ test(inputString: "x") { output } }'),
        "POST /graphql": j(query='{ test(inputString: "x") { output } }'),
        # Administration
        "GET 3/workspaces": Ask(),
        "POST 3/workspaces": j(name="matrix"),
        "GET 3/workspaces/{workspace_name}": at(workspace_name="default"),
        "PATCH 3/workspaces/{workspace_name}": at(workspace_name="default", _body={"description": "x"}),
        "DELETE 3/workspaces/{workspace_name}": at(workspace_name="matrix"),
        "GET 2/webhooks": Ask(),
        "POST 2/webhooks": Ask(body=worlds.webhook(f"{w.label}-webhook-new")),
        "GET 2/webhooks/{webhook_id}": at(webhook_id=w.webhook),
        "PATCH 2/webhooks/{webhook_id}": at(webhook_id=w.webhook, _body={"description": "mine"}),
        "DELETE 2/webhooks/{webhook_id}": at(webhook_id=w.webhook_doomed),
        "POST 2/webhooks/{webhook_id}/test": at(webhook_id=w.webhook, _body={}),
        "POST 3/demo/generate": j(),
        "POST 3/demo/delete": j(),
        # The page itself
        "GET /": Ask(),
        "GET /version": Ask(),
        "GET /build/{filename}": at(filename="none.js"),
        "GET /static-files/{path}": at(path="index.html"),
        "GET /health": Ask(),
        "GET 3/server-info": Ask(),
        "GET 3/ui-telemetry": Ask(),
        "POST 3/ui-telemetry": j(records=[]),
        "POST 3/assistant/message": j(message="x", session_id=None, context={}),
        "GET 3/assistant/sessions/{session_id}/stream": at(session_id="none"),
        "PATCH 3/assistant/sessions/{session_id}": at(session_id="none", _body={"status": "cancelled"}),
        "POST 3/assistant/sessions/{session_id}/permission": at(
            session_id="none", _body={"request_id": "1", "decision": "allow"}
        ),
        "POST 3/assistant/sessions/{session_id}/tool-result": at(
            session_id="none", _body={"request_id": "1", "result": "x", "tool_use_id": "1"}
        ),
        "GET 3/assistant/providers/{provider}/health": at(provider="claude_code"),
        "GET 3/assistant/providers/{provider}/models": at(provider="claude_code"),
        "GET 3/assistant/providers": Ask(),
        "GET 3/assistant/config": Ask(),
        "PUT 3/assistant/config": j(providers={}),
        "POST 3/assistant/skills/install": j(type="global"),
    }
    chat = {"model": w.endpoint_name, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    for path in (
        "mlflow/v1/chat/completions",
        "openai/v1/chat/completions",
        "anthropic/v1/messages",
        "typesafe/v1/systemone",
    ):
        table[f"POST /gateway/{path}"] = Ask(body=chat)
    for path in ("embeddings", "responses", "responses/compact"):
        table[f"POST /gateway/openai/v1/{path}"] = j(model=w.endpoint_name, input="x")
    for verb in ("generateContent", "streamGenerateContent"):
        table[f"POST /gateway/gemini/v1beta/models/{{endpoint_name}}:{verb}"] = at(
            endpoint_name=w.endpoint_name, _body={"contents": [{"parts": [{"text": "x"}]}]}
        )
    assert planted
    return table


def of_oidc(w, callers):
    """Return the requests to mlflow-oidc-auth's own routes."""
    old, new, doomed = (callers.accounts[which] for which in ("old", "new", "doomed"))
    given = {"permission": "READ"}
    pattern = {"regex": f"^{w.label}-nothing$", "priority": 100, "permission": "READ"}
    owner = callers.names["owner"]
    kinds = {
        "experiments/{experiment_id}": {"experiment_id": w.experiment},
        "registered-models/{name}": {"name": w.model},
        "prompts/{name}": {"name": w.prompt},
        "prompts/{prompt_name}": {"prompt_name": w.prompt},
        "scorers/{experiment_id}/{scorer_name}": {"experiment_id": w.experiment, "scorer_name": w.scorer},
        "gateways/endpoints/{name}": {"name": w.endpoint_name},
        "gateways/model-definitions/{name}": {"name": w.definition_name},
        "gateways/secrets/{name}": {"name": w.secret_name},
        "mcp-servers/{name}": {"name": w.server},
    }
    lists = (
        "experiments",
        "registered-models",
        "prompts",
        "scorers",
        "gateways/endpoints",
        "gateways/model-definitions",
        "gateways/secrets",
        "mcp-servers",
    )
    patterns = (
        "experiment-patterns",
        "registered-models-patterns",
        "prompts-patterns",
        "scorer-patterns",
        "gateways/endpoints-patterns",
        "gateways/model-definitions-patterns",
        "gateways/secrets-patterns",
    )
    table = {}
    for place, parameter, end in (("users", "username", ""), ("groups", "group_name", "-group")):
        under = f"2/permissions/{place}/{{{parameter}}}"
        for kind, value in kinds.items():
            table |= {
                f"POST {under}/{kind}": Ask(at={**value, parameter: new + end}, body=given),
                f"GET {under}/{kind}": Ask(at={**value, parameter: old + end}),
                f"PATCH {under}/{kind}": Ask(at={**value, parameter: old + end}, body={"permission": "EDIT"}),
                f"DELETE {under}/{kind}": Ask(at={**value, parameter: doomed + end}),
            }
        for kind in lists:
            table[f"GET {under}/{kind}"] = Ask(at={parameter: old + end})
        for kind in patterns:
            ids = w.patterns.get((place, kind), (0, 0))
            table |= {
                f"GET {under}/{kind}": Ask(at={parameter: old + end}),
                f"POST {under}/{kind}": Ask(at={parameter: new + end}, body=pattern),
                f"GET {under}/{kind}/{{id}}": Ask(at={parameter: old + end, "id": ids[0]}),
                f"PATCH {under}/{kind}/{{id}}": Ask(at={parameter: old + end, "id": ids[0]}, body=pattern),
                f"DELETE {under}/{kind}/{{id}}": Ask(at={parameter: old + end, "id": ids[1]}),
            }
    for kind, value in kinds.items():
        for version in ("2", "3"):
            for place in ("users", "groups"):
                table[f"GET {version}/permissions/{kind}/{place}"] = Ask(at=value)
    for kind in lists:
        table[f"GET 2/permissions/{kind}"] = Ask()
    user = {"username": old}
    table |= {
        "GET 3/permissions/scorers/{experiment_id}": at(experiment_id=w.experiment),
        "GET 2/permissions/groups": Ask(),
        "POST 2/permissions/groups": j(group_name=f"{w.label}-group"),
        "GET 2/permissions/groups/details": Ask(),
        "GET 2/permissions/groups/{group_name}/users": at(group_name=f"{old}-group"),
        "GET 2/users": Ask(),
        "POST 2/users": j(username=f"{w.label}-user", display_name="x"),
        "DELETE 2/users": j(username=w.account),
        "GET 2/users/service-account-sources": Ask(),
        "PATCH 2/users/access-token": j(username=old),
        "GET 2/users/current": Ask(),
        "GET 2/users/current/tokens": Ask(),
        "POST 2/users/current/tokens": j(name=f"{w.label}-token", expiration="2027-01-01T00:00:00Z"),
        "DELETE 2/users/current/tokens/{token_id}": at(token_id=999999),
        "PATCH 2/users/ownership": j(username=old, managed_by="manual"),
        "GET 2/users/details": Ask(),
        "PATCH 2/users/{username}/active": Ask(at=user, body={"active": True}),
        "GET 2/users/{username}/sessions": Ask(at=user),
        "DELETE 2/users/{username}/sessions": Ask(at=user),
        "DELETE 2/users/{username}/sessions/{session_pk}": Ask(at={**user, "session_pk": 999999}),
        "GET 2/users/{username}": Ask(at=user),
        "GET 2/users/{username}/tokens": Ask(at={"username": owner}),
        "POST 2/users/{username}/tokens": Ask(
            at=user, body={"name": f"{w.label}-token", "expiration": "2026-12-01T00:00:00Z"}
        ),
        "DELETE 2/users/{username}/tokens": Ask(at={"username": doomed}),
        "DELETE 2/users/{username}/tokens/{token_id}": Ask(at={**user, "token_id": 999999}),
        "GET 2/users/{username}/identities": Ask(at=user),
        "DELETE 2/users/{username}/identities": Ask(at=user, query={"provider_id": "default", "subject": "x"}),
        "PUT 2/users/{username}/service-account-source": Ask(
            at={"username": callers.names["service"]}, body={"source": "internal"}
        ),
        "GET 2/scim/tokens": Ask(),
        "POST 2/scim/tokens": j(name=f"{w.label}-scim"),
        "POST 2/scim/tokens/{token_id}/rotate": at(token_id=999999),
        "DELETE 2/scim/tokens/{token_id}": at(token_id=999999),
        "GET 2/scim/activity": Ask(),
        "GET 2/scim/status": Ask(),
        "GET /oidc/trash/experiments": Ask(),
        "GET /oidc/trash/runs": Ask(),
        "POST /oidc/trash/cleanup": q(experiment_ids="999999999"),
        "POST /oidc/trash/experiments/{experiment_id}/restore": at(experiment_id=w.experiment_gone2),
        "POST /oidc/trash/runs/{run_id}/restore": at(run_id=w.run_gone2),
        "POST /oidc/webhook": j(
            name=f"{w.label}-hook",
            url="https://234.0.0.1/hook",
            events=["registered_model.created"],
            status="DISABLED",
        ),
        "GET /oidc/webhook": Ask(),
        "GET /oidc/webhook/{webhook_id}": at(webhook_id=w.webhook),
        "PUT /oidc/webhook/{webhook_id}": at(webhook_id=w.webhook, _body={"description": "mine"}),
        "DELETE /oidc/webhook/{webhook_id}": at(webhook_id=w.webhook_doomed2),
        "POST /oidc/webhook/{webhook_id}/test": at(webhook_id=w.webhook, _body={}),
        "GET 3/workspace-rules": Ask(),
        "POST 3/workspace-rules": j(group=f"{old}-group", workspace="default", permission="READ"),
        "POST 3/workspace-rules/preview": j(group=f"{old}-group", workspace="default", permission="READ"),
        "GET 3/workspace-rules/{rule_id}": at(rule_id=1),
        "PATCH 3/workspace-rules/{rule_id}": at(rule_id=1, _body={"permission": "READ"}),
        "DELETE 3/workspace-rules/{rule_id}": at(rule_id=1),
        "GET 3/workspace-rules/{rule_id}/preview": at(rule_id=1),
        "GET /api/3.0/mlops/grants": q(subject="user"),
        "GET /providers": Ask(),
        "GET /login": Ask(),
        "GET /login/{provider_id}": at(provider_id="default"),
        "GET /logout": Ask(),
        "GET /callback": Ask(),
        "GET /callback/{provider_id}": at(provider_id="default"),
        "POST /callback/{provider_id}": at(provider_id="default", _body={}),
        "GET /auth/status": Ask(),
        "GET /slo/{provider_id}": at(provider_id="default"),
        "GET /saml/metadata/{provider_id}": at(provider_id="default"),
        "GET /oidc/ui": Ask(),
        "GET /oidc/ui/": Ask(),
        "GET /oidc/ui/config.json": Ask(),
        "GET /oidc/ui/{filename}": at(filename="index.html"),
        "GET /health/ready": Ask(),
        "GET /health/live": Ask(),
        "GET /health/startup": Ask(),
        # The SCIM interface, which accepts only its own token, and is disabled.
        "POST /scim/v2/Users": j(userName=f"{w.label}-scim"),
        "POST /scim/v2/Groups": j(displayName=f"{w.label}-scim"),
    }
    for method in ("CONNECT", "DELETE", "GET", "PATCH", "POST", "PUT", "TRACE"):
        table[f"{method} /scim/v2/{{unsupported}}"] = at(unsupported="x")
    for kind, key in (("Users", "user_id"), ("Groups", "group_id")):
        table[f"GET /scim/v2/{kind}"] = Ask()
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            table[f"{method} /scim/v2/{kind}/{{{key}}}"] = Ask(at={key: "1"}, body=None if method == "GET" else {})
    for kind in ("ServiceProviderConfig", "ResourceTypes", "Schemas"):
        table[f"GET /scim/v2/{kind}"] = Ask()
    table["GET /scim/v2/ResourceTypes/{resource_type}"] = at(resource_type="User")
    table["GET /scim/v2/Schemas/{schema_id}"] = at(schema_id="urn:ietf:params:scim:schemas:core:2.0:User")
    return table


def forged(w, own):
    """Return calls that name an experiment of the caller, `own`, and a trace or a run of the world.

    Each is a method, a path, a body and headers.
    """
    moved = worlds.trace(own, "forged")
    moved["trace"]["trace_info"]["trace_id"] = w.trace
    export = {"Content-Type": "application/x-protobuf", "X-Mlflow-Experiment-Id": own}
    return {
        "OTLP, trace": ("POST", "/v1/traces", worlds.spans("forged", w.trace), export),
        "OTLP, run": ("POST", "/v1/traces", worlds.spans("forged"), {**export, "X-Mlflow-Run-Id": w.run}),
        "OTLP, no run": ("POST", "/v1/traces", worlds.spans("forged"), {**export, "X-Mlflow-Run-Id": "0" * 32}),
        "StartTraceV3": ("POST", f"{worlds.API3}/traces", moved, {}),
    }


def of_graphql(w):
    """Return a query for each field of GraphQL, and a text that only a successful answer contains."""
    run, experiment = json.dumps(w.run), json.dumps(w.experiment)
    runs = f"(input: {{experimentIds: [{experiment}]}}) {{ runs {{ info {{ runId }} data {{ params {{ value }} }} }} }}"
    return {
        "query mlflowGetExperiment": (
            f"mlflowGetExperiment(input: {{experimentId: {experiment}}}) {{ experiment {{ tags {{ value }} }} }}",
            w.plant,
        ),
        "query mlflowGetMetricHistoryBulkInterval": (
            f'mlflowGetMetricHistoryBulkInterval(input: {{runIds: [{run}], metricKey: "loss", maxResults: 9}})'
            " { metrics { key runId } }",
            '"loss"',
        ),
        "query mlflowGetRun": (
            f"mlflowGetRun(input: {{runId: {run}}})"
            " { run { data { params { value } } experiment { name } modelVersions { description tags { value } } } }",
            w.plant,
        ),
        "query mlflowListArtifacts": (
            f"mlflowListArtifacts(input: {{runId: {run}}}) {{ rootUri files {{ path }} }}",
            "file.txt",
        ),
        "query mlflowSearchModelVersions": (
            f"mlflowSearchModelVersions(input: {{filter: {json.dumps('name = ' + repr(w.model))}}})"
            " { modelVersions { version tags { value } } }",
            w.plant,
        ),
        "query mlflowSearchRuns": (f"mlflowSearchRuns{runs}", w.plant),
        "mutation mlflowSearchRuns": (f"mlflowSearchRuns{runs}", w.plant),
        "mutation mlflowSearchDatasets": (
            f"mlflowSearchDatasets(input: {{experimentIds: [{experiment}]}}) {{ datasetSummaries {{ name }} }}",
            "planted-dataset",
        ),
        "query test": ('test(inputString: "x") { output }', None),
        "mutation testMutation": ('testMutation(inputString: "x") { output }', None),
    }


def of_basic(w, callers):
    """Return the requests to the routes of MLflow's basic-auth."""
    old, doomed, roles = callers.accounts["old"], callers.accounts["doomed"], {"role_id": w.role}
    grant = {"username": old, "resource_type": "experiment", "resource_id": w.experiment, "permission": "READ"}
    word = "a-password-of-24-letters"
    return {
        "GET /signup": Ask(),
        "POST 2/users/create": j(username=f"{w.label}-user", password=word),
        "POST 2/users/create-ui": Ask(
            body=urllib.parse.urlencode({"username": f"{w.label}-user2", "password": word}).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        ),
        "GET 2/users/get": q(username=old),
        "GET 2/users/list": Ask(),
        "GET 2/users/current": Ask(),
        "GET 3/users/current/permissions": Ask(),
        "PATCH 2/users/update-password": j(username=doomed, password=word),
        "PATCH 2/users/update-admin": j(username=doomed, is_admin=False),
        "DELETE 2/users/delete": j(username=w.account),
        "POST 3/users/permissions/grant": j(**grant),
        "GET 3/users/permissions/get": q(username=old, resource_type="experiment", resource_id=w.experiment),
        "GET 3/users/permissions/list": q(username=old),
        "POST 3/users/permissions/revoke": j(username=old, resource_type="experiment", resource_id=w.experiment),
        "POST 3/roles/create": j(name=f"{w.label}-role", workspace="default"),
        "GET 3/roles/get": q(**roles),
        "GET 3/roles/list": Ask(),
        "PATCH 3/roles/update": j(**roles, description="mine"),
        "GET 3/roles/permissions/list": q(**roles),
        "POST 3/roles/permissions/add": j(
            **roles, resource_type="experiment", resource_pattern=w.experiment_spare, permission="READ"
        ),
        "PATCH 3/roles/permissions/update": j(role_permission_id=999999, permission="READ"),
        "DELETE 3/roles/permissions/remove": j(role_permission_id=999999),
        "POST 3/roles/assign": j(**roles, username=old),
        "GET 3/users/roles/list": q(username=old),
        "GET 3/roles/users/list": q(**roles),
        "DELETE 3/roles/unassign": j(**roles, username=old),
        "DELETE 3/roles/delete": j(role_id=999999),
        "GET /health/ready": Ask(),
    }
