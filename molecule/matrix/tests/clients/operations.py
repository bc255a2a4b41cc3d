"""Prints the outcome of each operation as JSON: "ok", or the error. Usage: operations.py NAME"""

import json
import pathlib
import sys
import tempfile
import time

import mlflow
import pandas
from mlflow.entities import Metric, Param

name = sys.argv[1]
client, outcomes = mlflow.MlflowClient(), {}
experiment = mlflow.set_experiment(name).experiment_id


def operation(function):
    try:
        function()
        outcomes[function.__name__] = "ok"
    except Exception as error:
        outcomes[function.__name__] = f"{type(error).__name__}: {error}"[:400]
    return function


run = mlflow.start_run()
identifier = run.info.run_id


@operation
def tracking():
    mlflow.log_param("colour", "green")
    mlflow.set_tag("team", "a")
    for step in range(3):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    now = int(time.time() * 1000)
    client.log_batch(identifier, [Metric("many", n, now, n) for n in range(500)], [Param("p", "1")])
    data = client.get_run(identifier).data
    assert (data.params, data.metrics["many"]) == ({"colour": "green", "p": "1"}, 499), data
    assert len(client.get_metric_history(identifier, "many")) == 500


@operation
def search():
    found = client.search_runs([experiment], "metrics.loss < 1 and tags.team = 'a'")
    assert [each.info.run_id for each in found] == [identifier], found
    assert name in [each.name for each in client.search_experiments()]


@operation
def artifacts():
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "data.bin")
        path.write_bytes(bytes(range(256)) * 4096 * 12)
        mlflow.log_artifact(str(path), "large")
        mlflow.log_dict({"a": 1}, "small.json")
        back = mlflow.artifacts.download_artifacts(run_id=identifier, artifact_path="large/data.bin")
        assert pathlib.Path(back).read_bytes() == path.read_bytes()
    assert {each.path for each in client.list_artifacts(identifier)} == {"large", "small.json"}


class Double(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return [2 * number for number in model_input]


@operation
def registry():
    sent = {"python_model": Double(), "registered_model_name": name, "pip_requirements": ["mlflow"]}
    mlflow.pyfunc.log_model(artifact_path="model", **sent)
    version = client.search_model_versions(f"name='{name}'")[0].version
    client.set_registered_model_alias(name, "best", version)
    assert client.get_model_version_by_alias(name, "best").version == version
    assert mlflow.pyfunc.load_model(f"models:/{name}@best").predict([1, 2]) == [2, 4]


@operation
def datasets():
    mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"x": [1]}), name="numbers"), context="training")
    assert [each.dataset.name for each in client.get_run(identifier).inputs.dataset_inputs] == ["numbers"]


mlflow.end_run()


@operation
def traces():
    with mlflow.start_span(name="traced") as span:
        span.set_inputs({"question": "why"})
    if hasattr(mlflow, "flush_trace_async_logging"):
        mlflow.flush_trace_async_logging()
    found = client.search_traces(experiment_ids=[experiment])
    assert [each.data.spans[0].name for each in found] == ["traced"], found


client.delete_registered_model(name)
client.delete_experiment(experiment)
print(json.dumps({"version": mlflow.__version__, "outcomes": outcomes}))
