"""All routes of the server, called by all kinds of callers.

A route without a rule or a request fails the test, so a new version of MLflow adds its own rows.
"""

import collections
import datetime
import itertools
import time

import pytest

from tests.lib import matrix_callers, matrix_requests
from tests.lib import matrix_routes as routes
from tests.lib import matrix_world as worlds
from tests.lib import stack as stacks

# Flask and Starlette answer these methods themselves.
BY_ITSELF = ("HEAD", "OPTIONS")


@pytest.fixture(scope="module")
def listed(stack):
    return routes.of_the_server(stack)


@pytest.fixture(scope="module")
def callers(stack, plugin, mark):
    make = {"oidc": matrix_callers.oidc, "basic": matrix_callers.basic_auth}[plugin]
    with make(stack, f"matrix-{mark}") as found:
        yield found


@pytest.fixture(scope="module")
def caller_worlds(stack, callers, plugin, mark):
    """A world for each caller and prefix; callers that change nothing share one."""
    made = {}

    def make(caller, prefix):
        made[caller, prefix] = matrix_callers.world(f"matrix-{mark}-{caller}-{prefix}", caller, callers, plugin)

    first, second = worlds.PREFIXES
    changing = [caller for caller in matrix_callers.CALLERS if caller not in matrix_callers.CHANGE_NOTHING]
    try:
        worlds.together([lambda c=caller: make(c, first) for caller in matrix_callers.CALLERS])
        worlds.together([lambda c=caller: make(c, second) for caller in changing])
        for caller in matrix_callers.CHANGE_NOTHING:
            made[caller, second] = worlds.World(**{**vars(made[caller, first]), "turn": "2"})
        yield made
    finally:
        worlds.clear({world.label: world for world in made.values()}.values(), callers.clients["admin"])


def spread(listed):
    """Return the routes by prefix; those without a prefix are added to the first."""
    shares = {prefix: [] for prefix in worlds.PREFIXES}
    for route in listed.routes:
        if route.method not in BY_ITSELF:
            prefix = next((p for p in worlds.PREFIXES if route.path.startswith(f"/{p}/")), worlds.PREFIXES[0])
            shares[prefix].append(route)
    return shares


def requests_for(world, callers, plugin):
    table = {**matrix_requests.of(world), **getattr(matrix_requests, f"of_{plugin}")(world, callers)}
    return {key: (number, ask) for number, (key, ask) in enumerate(table.items())}


def fail_with(rows, what):
    """Fail if there are wrong rows, and list the first ones."""
    shown = "\n".join(sorted(rows)[:60])
    assert not rows, f"{len(rows)} {what}:\n{shown}"


def test_every_route_has_a_rule_and_a_request(listed, caller_worlds, callers, plugin):
    known = requests_for(caller_worlds["owner", worlds.PREFIXES[0]], callers, plugin)
    routes_here = [route for share in spread(listed).values() for route in share]
    fail_with([str(r) for r in routes_here if routes.asks(r.key, plugin) is None], "routes without a rule")
    fail_with([str(r) for r in routes_here if r.key not in known], "routes without a request")


def test_invalid_credentials_are_refused_on_every_route(listed, caller_worlds, callers, plugin, capsys):
    """All routes without credentials and with invalid ones: only public routes answer."""
    time.sleep(2)  # a revoked token may be cached for a second
    wrong = []
    tables = {prefix: requests_for(caller_worlds["other", prefix], callers, plugin) for prefix in worlds.PREFIXES}
    chores = [
        (name, client, route, tables[prefix][route.key][1])
        for prefix, share in spread(listed).items()
        for number, route in enumerate(share)
        for name, client in callers.refused.items()
        if name in matrix_callers.EVERYWHERE or number % 20 == 0
    ]
    begun = time.monotonic()

    def ask(part):
        for name, client, route, request in part:
            answer = client.ask(route.method, request.path(route.path, {}), request.body, request.headers)
            if routes.asks(route.key, plugin) == routes.PUBLIC:
                if answer.status in (401, 403) or answer.status >= 500:
                    wrong.append(f"{name}: {route} is public, but answers {answer.status}")
            elif answer.status not in routes.refusals(route.key):
                wrong.append(f"{name}: {route} answers {answer.status} {answer.text[:100]!r}")

    worlds.together([lambda part=chores[n :: worlds.PARALLEL]: ask(part) for n in range(worlds.PARALLEL)])
    with capsys.disabled():
        routes_count = len({chore[2] for chore in chores})
        print(
            f"\n{routes_count} routes x {len(callers.refused)} callers to be refused: {len(chores)} calls, "
            f"{time.monotonic() - begun:.0f} s"
        )
    fail_with(wrong, "calls that were not refused")


@pytest.mark.parametrize("method", BY_ITSELF)
def test_other_http_methods_are_refused(listed, caller_worlds, callers, plugin, method):
    """HEAD and OPTIONS reveal nothing to an anonymous caller."""
    table = requests_for(caller_worlds["other", worlds.PREFIXES[0]], callers, plugin)
    anonymous, wrong = callers.refused["anonymous"], []
    for route in listed.routes:
        key = f"GET {route.key.partition(' ')[2]}"
        if route.method != method or routes.asks(key, plugin) in (routes.PUBLIC, None):
            continue
        request = table[key][1] if key in table else matrix_requests.Ask()
        answer = anonymous.ask(method, request.path(route.path, {}))
        if answer.status not in {403, 405} | routes.refusals(key):
            wrong.append(f"{route} answers {answer.status}")
    fail_with(wrong, "calls that were not refused")


def answers(key, path, plugin):
    """Return the expected statuses of permitted calls, other than success."""
    return next(
        (
            statuses
            for pattern, statuses, _unused in (*routes.ANSWERS.get(plugin, []), *routes.ANSWERS["both"])
            if any(routes.re.fullmatch(pattern, name) for name in (key, path))
        ),
        set(),
    )


# Callers that may see only their own world; the owner owns all objects, and an administrator sees everything.
CONFINED = [caller for caller in matrix_callers.CALLERS if caller not in ("owner", "admin")]


def of_others(caller_worlds, caller):
    """Return the markers of worlds in which this caller has no permission."""
    others = (world.plant for (whose, _unused), world in caller_worlds.items() if whose != caller)
    return set(others) if caller in CONFINED else set()


def shows_too_much(caller, may, answer, request, *, world, hidden):
    """Return what an answer reveals without permission, or None; `hidden` are the markers of other worlds."""
    if world.plant in answer.text and (not may or caller == "other"):
        return "shows an object of another user"
    for plant in hidden:
        if plant in answer.text:
            return f"shows {plant}"
    if caller == "other" and world.label in answer.text and world.label not in f"{request}":
        return "reveals the name of an object of another user"
    return None


def is_right(what, may, status, others):
    """Return whether a status is as expected."""
    if what == routes.OFF:
        return status in (400, 403, 404, 500, 501, 503)
    if what == routes.CLOSED:
        return status in (401, 403, 429)
    return (200 <= status < 300 or status in others) if may else status == 403


def verdict(caller, route, request, answer, *, world, hidden, plugin):
    """Return the fault of an answer, or None."""
    what = routes.asks(route.key, plugin)
    special = routes.exception(route.key, caller, plugin)
    may = special if special is not None else what == routes.PUBLIC or what in routes.MAY[caller]
    fault = shows_too_much(caller, may, answer, request, world=world, hidden=hidden)
    if fault is None and not is_right(what, may, answer.status, answers(route.key, str(route), plugin)):
        fault = f"answers {answer.status} to who {'may' if may else 'may not'} ({what})"
    return fault


def test_every_caller_has_the_expected_access(listed, caller_worlds, callers, plugin, capsys):
    """All routes, called by authenticated users and programs on objects of their own worlds."""
    wrong, counted, begun = [], collections.Counter(), time.monotonic()
    shares = spread(listed)

    def run(caller, prefix):
        world, client = caller_worlds[caller, prefix], callers.clients[caller]
        known, hidden = requests_for(world, callers, plugin), of_others(caller_worlds, caller)
        for route in sorted(shares[prefix], key=lambda each: known[each.key][0]):
            request = known[route.key][1]
            if route.key in routes.UNTRIED and caller == "admin":
                continue
            answer = client.ask(route.method, request.path(route.path, {}), request.body, request.headers)
            counted[answer.status // 100] += 1
            fault = verdict(caller, route, request, answer, world=world, hidden=hidden, plugin=plugin)
            if fault:
                wrong.append(f"{route} for {caller} {fault}: {answer.text[:160]!r}")

    worlds.together([lambda c=caller, p=prefix: run(c, p) for caller, prefix in caller_worlds])
    with capsys.disabled():
        print(
            f"\n{sum(map(len, shares.values()))} routes x {len(matrix_callers.CALLERS)} authenticated callers: "
            f"{counted.total()} calls, {counted[2]} answered, {counted[4]} refused, {time.monotonic() - begun:.0f} s"
        )
    assert counted[2] > counted.total() / 4
    fail_with(wrong, "answers that are wrong")


def test_graphql_shows_only_permitted_objects(listed, caller_worlds, callers):
    """One row per field of the schema; an unknown field fails the test."""
    wrong, rows = [], 0
    for (caller, prefix), world in caller_worlds.items():
        known = matrix_requests.of_graphql(world)
        fields = [f"{kind} {name}" for kind, name in listed.graphql]
        assert set(fields) <= set(known), f"no query is known for {set(fields) - set(known)}"
        if prefix != worlds.PREFIXES[0]:
            continue
        for field in fields:
            query, marker = known[field]
            body = {"query": f"{field.partition(' ')[0]} {{ {query} }}"}
            for name, client in {"": callers.clients[caller], **(callers.refused if caller == "other" else {})}.items():
                answer = client.ask("POST", "/graphql", body)
                rows += 1
                if name:
                    if answer.status != 401:
                        wrong.append(f"{field} for {name}: {answer.status}")
                elif marker is not None and (marker in answer.text) != (caller != "other"):
                    wrong.append(f"{field} for {caller}: {answer.status} {answer.text[:200]}")
                elif any(plant in answer.text for plant in of_others(caller_worlds, caller)):
                    wrong.append(f"{field} for {caller} shows what is planted elsewhere: {answer.text[:200]}")
    fail_with(wrong, "answers that are wrong")
    assert rows > 100


@pytest.mark.parametrize("caller", ["anonymous", "other"])
def test_path_variants_do_not_bypass_authorization(caller_worlds, callers, caller):
    """Paths that a proxy or a router might normalize."""
    world = caller_worlds["other", worlds.PREFIXES[0]]
    client = callers.clients[caller] if caller in callers.clients else callers.refused[caller]
    file = f"{world.artifacts}/file.txt"
    proxied = "/api/2.0/mlflow-artifacts/artifacts"
    spellings = [
        f"//api/2.0/mlflow/runs/get?run_id={world.run}",
        f"/api/2.0/mlflow/runs/get/?run_id={world.run}",
        f"/api/2.0/mlflow/runs/get%2f?run_id={world.run}",
        f"/API/2.0/mlflow/runs/get?run_id={world.run}",
        f"/health/../api/2.0/mlflow/runs/get?run_id={world.run}",
        f"/health/%2e%2e/api/2.0/mlflow/runs/get?run_id={world.run}",
        f"/static-files/../api/2.0/mlflow/runs/get?run_id={world.run}",
        f"/static-files/..%2fapi/2.0/mlflow/runs/get?run_id={world.run}",
        f"/login/../api/2.0/mlflow/runs/get?run_id={world.run}",
        f"/api/2.0/mlflow/runs/get?run_id={world.run}&run_id=none",
        f"/api/2.0/mlflow/runs/get?run_uuid={world.run}",
        f"/api/2.0/mlflow/runs/get?run_id=&run_uuid={world.run}",
        f"{proxied}/{file}",
        f"{proxied}//{file}",
        f"{proxied}/x/../{file}",
        f"{proxied}/x/%2e%2e/{file}",
        f"{proxied}/{file.replace('/', '%2f')}",
        f"{proxied}?path=",
        f"{proxied}?path=/",
        f"{proxied}?path={world.experiment}/../{world.experiment}",
        f"/get-artifact?run_id={world.run}&path=file.txt",
        f"/get-artifact?run_uuid={world.run}&path=../artifacts/file.txt",
    ]
    wrong = []
    for path in spellings:
        answer = client.ask("GET", path)
        if world.plant in answer.text or (world.run in answer.text and answer.status < 400):
            wrong.append(f"{path} answers {answer.status} {answer.text[:150]!r}")
    fail_with(wrong, "paths that show objects of other users")


def test_proxy_headers_do_not_change_the_caller(caller_worlds, callers, stack):
    """Headers in which a proxy would pass the user and the client address."""
    world = caller_worlds["other", worlds.PREFIXES[0]]
    admin = callers.names["admin"]
    for header, value in (
        ("X-Forwarded-User", admin),
        ("X-Forwarded-Email", admin),
        ("X-Forwarded-Preferred-Username", admin),
        ("X-Auth-Request-User", admin),
        ("X-Remote-User", admin),
        ("Remote-User", admin),
        ("X-Forwarded-Prefix", "/health"),
        ("X-Forwarded-Path", "/health"),
        ("X-Original-URL", "/health"),
        ("X-Rewrite-URL", "/health"),
        ("X-HTTP-Method-Override", "OPTIONS"),
        ("X-Forwarded-For", "127.0.0.1"),
    ):
        path = f"/api/2.0/mlflow/runs/get?run_id={world.run}"
        assert callers.refused["anonymous"].ask("GET", path, headers={header: value}).status == 401, header
        assert callers.clients["other"].ask("GET", path, headers={header: value}).status == 403, header
    own = callers.clients["owner"].ask(
        "PUT", "/ajax-api/3.0/mlflow/assistant/config", {"providers": {}}, {"X-Forwarded-For": "127.0.0.1"}
    )
    assert own.status == 404, own.text


@pytest.mark.parametrize("caller", ["other", "reader"])
def test_own_experiment_gives_no_access_to_traces_and_runs_of_others(caller_worlds, callers, caller, mark):
    """Headers and bodies that name an experiment of the caller together with an object of the owner."""
    world, client = caller_worlds[caller, worlds.PREFIXES[0]], callers.clients[caller]
    name = f"own-forged-{mark}-{caller}"
    own = client.made("POST", f"{worlds.API2}/experiments/create", {"name": name})["experiment_id"]
    read = f"{worlds.API3}/traces/get?trace_id={world.trace}"
    before = callers.clients["owner"].made("GET", read)
    wrong = []
    try:
        for what, (method, path, body, headers) in matrix_requests.forged(world, own).items():
            answer = client.ask(method, path, body, headers)
            if answer.status != 403:
                wrong.append(f"{what} answers {answer.status} {answer.text[:150]!r}")
        fail_with(wrong, "forged calls that were not refused")
        assert callers.clients["owner"].made("GET", read) == before
        export = {"Content-Type": "application/x-protobuf", "X-Mlflow-Experiment-Id": own}
        assert client.ask("POST", "/v1/traces", worlds.spans("own"), export).status == 200
    finally:
        client.ask("POST", f"{worlds.API2}/experiments/delete", {"experiment_id": own})


def test_valid_token_of_the_identity_provider_is_accepted(callers):
    """Control: otherwise the refusal of forged tokens would prove nothing."""
    if callers.bearer is None:
        pytest.skip("this stack has no identity provider")
    answer = callers.bearer.ask("GET", "/api/2.0/mlflow/users/current")
    assert (answer.status, answer.json()["username"]) == (200, stacks.USER), answer.text


def test_logged_in_user_cannot_create_tokens_for_others(callers, stack, mark):
    """Only users who logged in at the provider can create tokens, so only they could create them for others."""
    if callers.bearer is None:
        pytest.skip("this stack has no identity provider")
    ends = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()
    body = {"name": f"matrix-{mark}", "expiration": ends}
    others = (*(callers.names[caller] for caller in ("other", "service", "admin")), callers.accounts["old"])
    wrong = []
    for prefix, whose in itertools.product(worlds.PREFIXES, others):
        users = f"/{prefix}/2.0/mlflow/users"
        for method, path, asked in (
            ("POST", f"{users}/{whose}/tokens", body),
            ("PATCH", f"{users}/access-token", {"username": whose, "expiration": ends}),
        ):
            answer = callers.bearer.ask(method, path, asked)
            if answer.status != 403:
                wrong.append(f"{method} {path} for {whose} answers {answer.status}")
    fail_with(wrong, "tokens of other users that were not refused")

    tokens = f"{worlds.API2}/users/current/tokens"
    made = callers.bearer.made("POST", tokens, body)
    try:
        theirs = worlds.Client(stack.mlflow_url, worlds.basic(stacks.USER, made["token"]))
        assert theirs.made("GET", f"{worlds.API2}/users/current")["username"] == stacks.USER
    finally:
        callers.bearer.made("DELETE", f"{tokens}/{made['id']}")
