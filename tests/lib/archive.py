"""Traces of a real client, and the CronJob that archives and deletes them."""

import json

from tests.lib import stack as stacks

LOG = """
    import sys
    import mlflow

    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_span("asked") as span:
        span.set_inputs({"question": "why"})
    mlflow.flush_trace_async_logging()
    print(span.trace_id)
"""
READ = """
    import sys
    import mlflow

    client = mlflow.MlflowClient()
    (span,) = mlflow.get_trace(sys.argv[1]).data.spans
    assert span.inputs == {"question": "why"}, span.inputs
    found = client.search_traces(locations=[sys.argv[2]])
    assert [each.data.spans[0].inputs for each in found] == [{"question": "why"}], found
"""


def log(stack, token, experiment, days):
    """Have a client log a trace, which then is so many days old; return its identifier and its experiment's."""
    trace = stack.client(LOG, stacks.ADMIN, token, experiment).stdout.split()[-1]
    past = f"timestamp_ms = timestamp_ms - {days}::bigint * 86400000"
    ((number,),) = stack.sql(
        "mlflow", f"UPDATE trace_info SET {past} WHERE request_id = '{trace}' RETURNING experiment_id"
    )
    return trace, number


def read(stack, token, trace, experiment):
    """Check that a client reads the span of a trace, by itself and in a search."""
    stack.client(READ, stacks.ADMIN, token, trace, experiment)


def run(stack, *words):
    """Run the Job of the CronJob with these options instead of its own; return whether it ended well, and its log."""
    create = ("-n", "mlflow", "create", "job", "traces-test", "--from=cronjob/mlflow-traces")
    job = json.loads(stack.kubectl(*create, "--dry-run=client", "-o", "json"))
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["command"] = [word for word in container["command"] if word != "--list"] + list(words)
    stack.kubectl("apply", "-f", "-", text=json.dumps(job))
    well, output = stack.outcome("mlflow", "traces-test")
    stack.kubectl("-n", "mlflow", "delete", "job", "traces-test")
    print(output)
    return well, output
