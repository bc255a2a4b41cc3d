"""Searches are cheap, and silent about hidden rows: with the real server."""

import secrets

import pytest

EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
MODELS = "/api/2.0/mlflow/registered-models/search"


def search(server, user, path, key, **asked):
    """Return the names and the token of one page."""
    by_body = path == EXPERIMENTS
    answer = server.call(user, "POST", path, asked) if by_body else server.call(user, "GET", path, params=asked)
    assert answer.ok, answer.text
    return [row["name"] for row in answer.json().get(key, [])], answer.json().get("next_page_token", "")


def create(server, user, kind, name):
    """Create an experiment or a model."""
    path = "experiments" if kind == EXPERIMENTS else "registered-models"
    answer = server.call(user, "POST", f"/api/2.0/mlflow/{path}/create", {"name": name})
    assert answer.ok, answer.text


KINDS = pytest.mark.parametrize(("path", "key"), [(EXPERIMENTS, "experiments"), (MODELS, "registered_models")])


@KINDS
def test_no_token_tells_of_a_hidden_row(oidc_server, path, key):
    prefix = secrets.token_hex(4)
    create(oidc_server, "bob", path, f"{prefix}-a")
    asked = {"filter": f"name LIKE '{prefix}%'", "max_results": 1, "order_by": ["name ASC"]}
    alone = search(oidc_server, "bob", path, key, **asked)
    create(oidc_server, "ann", path, f"{prefix}-b")
    assert search(oidc_server, "bob", path, key, **asked) == alone == ([f"{prefix}-a"], "")


@KINDS
def test_pages_are_complete_and_tokens_equally_long(oidc_server, path, key):
    prefix, seen, token, lengths = secrets.token_hex(4), [], "", set()
    for number in range(12):
        create(oidc_server, "bob" if number % 3 == 0 else "ann", path, f"{prefix}-{number:02}")
    asked = {"filter": f"name LIKE '{prefix}%'", "max_results": 1, "order_by": ["name ASC"]}
    while True:
        names, token = search(oidc_server, "bob", path, key, **asked, **({"page_token": token} if token else {}))
        seen += names
        if not token:
            break
        lengths.add(len(token))
    assert seen == [f"{prefix}-{number:02}" for number in (0, 3, 6, 9)]
    assert len(lengths) == 1


def test_tokens_do_not_tell_their_offset(oidc_server):
    import base64  # noqa: PLC0415  (only here)

    for _unused in range(2):
        create(oidc_server, "bob", EXPERIMENTS, secrets.token_hex(6))
    _names, token = search(oidc_server, "bob", EXPERIMENTS, "experiments", max_results=1)
    assert b"offset" not in base64.urlsafe_b64decode(token)
    made = base64.b64encode(b'{"offset": 1}').decode()
    assert oidc_server.call("bob", "POST", EXPERIMENTS, {"max_results": 1, "page_token": made}).status_code == 400


def test_stock_client_pages_through_runs(oidc_server):
    program = f"""
import mlflow
mlflow.set_experiment("{secrets.token_hex(4)}")
client = mlflow.MlflowClient()
experiment = mlflow.get_experiment_by_name(mlflow.set_experiment("{secrets.token_hex(4)}").name).experiment_id
for number in range(5):
    client.create_run(experiment)
token, found = None, []
while True:
    page = client.search_runs([experiment], max_results=2, page_token=token)
    found += page
    token = page.token
    if not token:
        break
models = [client.create_logged_model(experiment, name=f"m{{number}}") for number in range(3)]
token, logged = None, []
while True:
    page = client.search_logged_models([experiment], max_results=1, page_token=token)
    logged += page
    token = page.token
    if not token:
        break
print(len(found), len(logged))
"""
    assert oidc_server.python("bob", program) == "5 3"


QUERY = "{mlflowSearchModelVersions(input: {filter: %s, maxResults: 1}) {nextPageToken modelVersions {name}}}"


def graphql(server, user, filter_string):
    """Search model versions by GraphQL."""
    import json  # noqa: PLC0415  (only here)

    answer = server.call(user, "POST", "/graphql", {"query": QUERY % json.dumps(filter_string)})
    assert answer.ok, answer.text
    return answer.json()["data"]["mlflowSearchModelVersions"]


@pytest.fixture
def models(oidc_server):
    """A model of ann and one of bob, with one version each of the same run of bob, and the run."""
    prefix = secrets.token_hex(4)
    run = oidc_server.run("bob", oidc_server.experiment("bob", prefix))
    for user, name in (("bob", "a"), ("ann", "b")):
        create(oidc_server, user, MODELS, f"{prefix}-{name}")
        version = {"name": f"{prefix}-{name}", "source": f"runs:/{run}/model", "run_id": run}
        answer = oidc_server.call("root", "POST", "/api/2.0/mlflow/model-versions/create", version)
        assert answer.ok, answer.text
    return prefix, run


@pytest.mark.parametrize(
    "filter_string",
    [
        "name IN ('{prefix}-a','{prefix}-b')",
        "name = '{prefix}-b'",
        "source_path != 'name=\"{prefix}-a\"'",
        "name LIKE '{prefix}%' AND source_path != 'name=\"{prefix}-a\"'",
        "source_path != 'run_id=\"{run}\"'",
        "name LIKE '{prefix}%'",
        "no filter",
    ],
)
def test_graphql_does_not_search_hidden_models(oidc_server, models, filter_string):
    assert graphql(oidc_server, "bob", filter_string.format(prefix=models[0], run=models[1])) is None


def test_graphql_searches_own_models(oidc_server, models):
    prefix, run = models
    found = graphql(oidc_server, "bob", f"name = '{prefix}-a'")
    assert found["modelVersions"] == [{"name": f"{prefix}-a"}]
    assert not found["nextPageToken"]
    found = graphql(oidc_server, "bob", f"run_id = '{run}'")
    assert not found["nextPageToken"]
    assert {version["name"] for version in found["modelVersions"]} <= {f"{prefix}-a"}
    assert graphql(oidc_server, "root", f"name IN ('{prefix}-a','{prefix}-b')")["nextPageToken"]


# The search without a server


class Row:
    """A row of a store."""

    def __init__(self, number):
        self.number = number

    def to_proto(self):
        return self.number


def top_up(monkeypatch, hidden, visible, max_results=1, at_least=1):
    """Fill a page that begins empty from a store with hidden rows before visible ones; count the fetches."""
    from mlflow.store.entities import PagedList  # noqa: PLC0415  (the real one)
    from mlflow.utils.search_utils import SearchUtils  # noqa: PLC0415

    from mlops_mlflow_server import searches  # noqa: PLC0415

    everything, fetched, rows = [Row(number) for number in range(hidden + visible)], [], []

    class Store:
        def search_rows(self, max_results, page_token):
            begin = SearchUtils.parse_start_offset_from_page_token(page_token)
            fetched.append(max_results)
            end = begin + max_results
            return PagedList(
                everything[begin:end], SearchUtils.create_page_token(end) if end < len(everything) else None
            )

    larger = searches.Larger(Store())
    token = searches.top_up_page(
        rows,
        max_results,
        SearchUtils.create_page_token(at_least),
        fetch=lambda token: larger.search_rows(max_results=max_results, page_token=token),
        keep=lambda row: row.number >= hidden,
    )
    return rows, token, fetched


def test_fetches_are_large(monkeypatch):
    rows, token, fetched = top_up(monkeypatch, hidden=4000, visible=1)
    assert (rows, token) == ([4000], "")
    assert fetched == [20, 1000, 1000, 1000, 1000]


def test_fetches_are_bounded(monkeypatch):
    rows, token, fetched = top_up(monkeypatch, hidden=50_000, visible=1)
    assert rows == []
    assert token
    assert len(fetched) == 10
