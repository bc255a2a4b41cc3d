"""The matrix's tables that need no cluster."""

from tests.lib import matrix_requests
from tests.lib import matrix_world as worlds


def test_forged_calls_name_an_object_of_the_world_and_an_experiment_of_the_caller():
    world = worlds.World(trace="tr-" + "a" * 32, run="b" * 32)
    calls = matrix_requests.forged(world, "7")
    assert len(calls) == 4
    for _method, path, body, headers in calls.values():
        text = f"{body} {headers}"
        assert "'7'" in text
        if path == "/v1/traces":
            assert bytes.fromhex("a" * 32) in body or headers["X-Mlflow-Run-Id"] in (world.run, "0" * 32)
        else:
            assert world.trace in text
