"""All routes, as listed by the server itself, and the expected access of each kind of caller.

A route is written as `GET 2/experiments/get`: the method, and the path without `/api` or `/ajax-api`, with the version
of MLflow's API before it. MLflow serves most routes under both prefixes; both are called.
"""

import dataclasses
import functools
import json
import re

# Runs in a pod: imports the application that the server serves, and walks all mounted applications.
LIST = r"""
import importlib, json, logging, os, sys, tempfile
logging.disable(logging.CRITICAL)
with open("/proc/1/cmdline") as stream:
    command = stream.read().split("\0")
here = tempfile.mkdtemp()
os.environ["MLOPS_BASIC_AUTH_FILE"] = here + "/basic_auth.ini"
os.environ["MLOPS_DRAIN_FILE"] = here + "/draining"
# The metrics port is in use by the server.
command = [word for word in command if not word.startswith(("--expose-prometheus=", "--metrics-port="))]
command.append("--expose-prometheus=" + here)
import uvicorn
uvicorn.run = lambda *_, **__: None  # the server's start without serving
from mlops_mlflow_server import serve
assert serve.main([word for word in command[command.index("mlops_mlflow_server.serve") + 1 :] if word]) == 0
application = importlib.import_module("mlops_mlflow_server.app").app
while not hasattr(application, "routes"):
    application = next(
        value
        for name, value in vars(application).items()
        if callable(value) and name.strip("_") in ("app", "application", "inner", "asgi")
    )
def flask_in(value, depth=3):
    if hasattr(value, "url_map"):
        return value
    inner = getattr(value, "__dict__", {}).values() if depth else ()
    return next((found for found in (flask_in(each, depth - 1) for each in inner) if found is not None), None)
from starlette.routing import Mount
try:
    from fastapi.routing import iter_route_contexts
except ImportError:
    iter_route_contexts = iter
found, opaque = [], []
def walk(routes, prefix=""):
    for route in iter_route_contexts(routes):
        original = getattr(route, "original_route", None) or route
        if isinstance(original, Mount):
            inner = original.app
            flask = flask_in(inner)
            if flask is not None:
                for rule in flask.url_map.iter_rules():
                    found.extend((method, prefix + original.path + rule.rule) for method in rule.methods)
            elif hasattr(inner, "routes"):
                walk(inner.routes, prefix + original.path)
            else:
                opaque.append(prefix + original.path + " " + type(inner).__name__)
        else:
            methods = getattr(route, "methods", None) or ["WEBSOCKET"]
            found.extend((method, prefix + route.path) for method in methods)
walk(application.routes)
from mlflow.server.handlers import _graphql  # noqa: F401  registers its routes
from mlflow.server.graphql.graphql_schema_extensions import schema
kinds = {"query": schema.graphql_schema.query_type, "mutation": schema.graphql_schema.mutation_type}
fields = [[kind, name] for kind, type_ in kinds.items() if type_ for name in type_.fields]
print(json.dumps({"routes": sorted(set(found)), "graphql": fields, "opaque": opaque}))
"""


@dataclasses.dataclass(frozen=True, order=True)
class Route:
    """A method and the path pattern as the server lists it."""

    method: str
    path: str

    @functools.cached_property
    def key(self):
        """The key of this route in the tables of this module."""
        return f"{self.method} {short(self.path)}"

    def __str__(self):
        return f"{self.method} {self.path}"


def short(path):
    """Return the path without its prefix, with uniform parameters."""
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
    return re.sub(r"^/(?:ajax-)?api/(\d)\.0/?mlflow(-artifacts)?/", r"\1\2/", path)


@dataclasses.dataclass(frozen=True)
class Listed:
    """The routes and GraphQL fields of a server.

    Attributes:
        routes: all of its routes.
        graphql: the fields of its GraphQL schema, as pairs of "query" or "mutation" and the name.
    """

    routes: list
    graphql: list


def of_the_server(stack):
    """Return the routes that an MLflow pod lists."""
    listed = json.loads(stack.execute("mlflow", "python", "-", text=LIST).splitlines()[-1])
    assert not listed["opaque"], f"applications whose routes are unknown: {listed['opaque']}"
    return Listed(sorted({Route(method, path) for method, path in listed["routes"]}), listed["graphql"])


# The access that a route requires.
PUBLIC = "public"  # any caller, without credentials
AUTHENTICATED = "authenticated"  # any authenticated caller; lists are filtered by permission
READ = "read"
EDIT = "edit"
MANAGE = "manage"
ADMIN = "admin"
CLOSED = "closed"  # refused to every user and program
OFF = "off"  # not served

# The access of each caller to the objects of its world.
MAY = {
    "owner": {AUTHENTICATED, READ, EDIT, MANAGE},
    "admin": {AUTHENTICATED, READ, EDIT, MANAGE, ADMIN},
    "editor": {AUTHENTICATED, READ, EDIT},
    "service": {AUTHENTICATED, READ, EDIT},
    "reader": {AUTHENTICATED, READ},
    "other": {AUTHENTICATED},
}

# The first rule that matches a route's key applies; a route without a rule fails the test.
_COMMON = [
    (r"\w+ /(health|login|callback|static-files)(/.*)?", PUBLIC),
    (r"GET /", AUTHENTICATED),
    (r"GET /version", AUTHENTICATED),
    (r"GET /build/\{filename\}", OFF),
    (r"GET 3/server-info", AUTHENTICATED),
    (r"(GET|POST) 3/ui-telemetry", AUTHENTICATED),
    # Server configuration, and objects without an owner.
    (r"\w+ 2/webhooks.*", ADMIN),
    (r"\w+ 3/gateway/(guardrails|budgets)/.*", ADMIN),
    (r"\w+ 3/demo/.*", ADMIN),
    (r"\w+ 3/workspaces.*", OFF),
    (r"\w+ 3/prompt-optimization/jobs(/\{job_id\}.*)?", OFF),
    (r"GET 2/(unified-traces|get-online-trace-details)", OFF),
    # What the browser requests before it shows a form, and searches that are filtered by permission.
    (r"GET 3/gateway/(provider-config|secrets/config)", AUTHENTICATED),
    # Users of an endpoint may see what endpoints can be made of.
    (r"GET (2/gateway-proxy|3/gateway/supported-(providers|models))", EDIT),
    (r"GET 3/gateway/(secrets|endpoints|model-definitions)/list", AUTHENTICATED),
    (r"(GET|POST) 2/experiments/search", AUTHENTICATED),
    (r"GET 2/(registered-models|model-versions)/search|POST 2/logged-models/search", AUTHENTICATED),
    (r"GET 3/mcp-servers(/endpoints)?", AUTHENTICATED),
    (r"POST /ajax-api/3.0/jobs/search", AUTHENTICATED),
    (r"\w+ (/ajax-api/3.0|3)/jobs/.*", OFF),
    # GraphQL has a row for each field.
    (r"(GET|POST) /graphql", AUTHENTICATED),
    (r"GET /gateway/mlflow/v1/models", AUTHENTICATED),
    # Every user can create objects.
    (r"POST 2/(experiments|registered-models)/create", AUTHENTICATED),
    (r"POST 3/gateway/secrets/create", AUTHENTICATED),
    (r"POST 3/mcp-servers", AUTHENTICATED),
    # Reading, by the verbs in MLflow's routes.
    (r"POST 2/artifacts/presigned-download-url", READ),
    (r"POST (2|3)/.*(search|search-datasets|get-latest-versions|batchGet|batchGetInfos)", READ),
    (r"POST 3/traces/(metrics|calculate-filter-correlation)", READ),
    (r"GET (2|3)/.*", READ),
    (r"GET 2-artifacts/.*", READ),
    (r"GET /(get-artifact|model-versions/get-artifact)", READ),
    # Permanent deletion, and sharing.
    (r"POST 2/(experiments|runs)/(delete|restore)", MANAGE),
    (r"DELETE 2/(registered-models/delete|model-versions/(delete|delete-tag))", MANAGE),
    (r"(POST|PATCH|DELETE) 3/label-schemas/.*", MANAGE),
    (r"POST 3/review-queues/(update|delete|items/remove)", MANAGE),
    (r"DELETE 2/registered-models/alias", MANAGE),
    (r"POST (2|3)/traces/delete-traces", MANAGE),
    (r"DELETE 2/logged-models/\{model_id\}.*", MANAGE),
    (r"DELETE 3/(datasets/\{dataset_id\}|scorers/delete|mcp-servers/.*)", MANAGE),
    (r"DELETE 3/gateway/(secrets|endpoints|model-definitions)/delete", MANAGE),
    (r"DELETE 2-artifacts/.*", MANAGE),
    # All other changes.
    (r"(POST|PUT|PATCH|DELETE) (2|2-artifacts|3)/.*", EDIT),
    (r"POST /v1/traces", EDIT),
    (r"POST /gateway/.*", EDIT),
]

_ASSISTANT = [
    # The assistant runs programs on the server: allowed only from the server's own host; settings are shown without
    # secrets.
    (r"GET 3/assistant/(providers|config)", AUTHENTICATED),
    (r"\w+ 3/assistant/.*", CLOSED),
]
_OIDC = [
    (r"\w+ /(providers|oidc/ui.*|slo/.*|saml/metadata/.*)", PUBLIC),
    (r"GET /(auth/status|logout)", AUTHENTICATED),
    (r"\w+ /scim/v2/.*", CLOSED),
    (r"GET /api/3.0/mlops/grants", ADMIN),
    (r"\w+ (/oidc/(trash|webhook)|2/scim).*", ADMIN),
    (r"\w+ 3/workspace-rules.*", OFF),
    (r"POST 3/mcp-servers", ADMIN),
    # Tokens cannot be created with a token.
    (r"PATCH 2/users/access-token|POST 2/users/(current|\{username\})/tokens", CLOSED),
    # A scorer that logs nothing needs only READ.
    (r"POST 3/scorer/invoke", READ),
    (r"GET 2/users", AUTHENTICATED),
    (r"\w+ 2/users/current.*", AUTHENTICATED),
    (r"\w+ 2/users.*", ADMIN),
    # Permissions: MANAGE allows sharing; patterns and the gateway require an administrator.
    (r"\w+ 2/permissions/(users|groups)/\{\w+\}/\S*-patterns.*", ADMIN),
    (r"\w+ 2/permissions/(users|groups)/\{\w+\}/gateways/[a-z-]+/\{name\}", ADMIN),
    (r"GET 2/permissions/groups/\{\w+\}/gateways/[a-z-]+", ADMIN),
    (r"GET 2/permissions/groups", AUTHENTICATED),
    (r"POST 2/permissions/groups", ADMIN),
    (r"GET 2/permissions/groups/(details|\{group_name\}/users)", ADMIN),
    (r"GET 2/permissions/(users|groups)/\{\w+\}/[a-z-]+(/[a-z-]+)?", AUTHENTICATED),
    (r"GET 2/permissions/[a-z-]+(/[a-z-]+)?", AUTHENTICATED),
    (r"GET 3/permissions/scorers/\{experiment_id\}", AUTHENTICATED),
    (r"\w+ (2|3)/permissions/.*", MANAGE),
]
_BASIC = [
    (r"GET (2/users/(current|list)|3/users/current/permissions|3/roles/(get|permissions/list))", AUTHENTICATED),
    (r"POST 3/users/permissions/(grant|revoke)", MANAGE),
    (r"GET 3/gateway/budgets/.*|POST 2/runs/search", AUTHENTICATED),
    # Known providers and models, and endpoints of a deployments server that does not exist.
    (r"(GET|POST) 2/gateway-proxy|GET 3/gateway/supported-(providers|models)", AUTHENTICATED),
    # Creates an experiment of the caller with demo runs.
    (r"POST 3/demo/generate", AUTHENTICATED),
    (r"\w+ 3/gateway/guardrails/(add-to-endpoint|remove-from-endpoint|update-config)", EDIT),
    (r"GET 3/gateway/guardrails/list-for-endpoint", READ),
    (r"\w+ (/signup|(2|3)/(users|roles)/.*)", ADMIN),
]
RULES = {"oidc": [*_OIDC, *_ASSISTANT, *_COMMON], "basic": [*_BASIC, *_ASSISTANT, *_COMMON]}


def asks(key, plugin):
    """Return the access that a route requires, or None if no rule matches."""
    return next((what for pattern, what in RULES[plugin] if re.fullmatch(pattern, key)), None)


# Expected statuses of permitted calls that do not succeed, with the reason; the requests are valid.
ANSWERS = {
    "oidc": [
        (r"GET /(login|logout|callback).*", {302}, "redirects to the identity provider"),
        (r"GET /oidc/ui", {307}, "redirects to the path with a slash"),
        (r"POST /callback/\{provider_id\}", {413}, "an OpenID provider answers by GET, so the path takes no body"),
        (r"\w+ /(saml/metadata|slo|callback)/\{provider_id\}", {302, 404}, "there is no SAML provider"),
        (
            r"(GET|DELETE) 2/permissions/groups/\{group_name\}/gateways/[a-z-]+-patterns/\{id\}",
            {500},
            "mlflow-oidc-auth compares the number with a string, which PostgreSQL refuses",
        ),
        (r"\w+ 2/(users|scim)/.*\{(token_id|session_pk)\}.*", {404}, "an unknown ID: no session is ended here"),
        (r"DELETE 2/users/\{username\}/identities", {404}, "the account is not bound to a provider"),
        (r"POST /oidc/trash/cleanup", {404}, "an unknown experiment: the trash holds objects of others"),
    ],
    "basic": [
        (r"\w+ 3/roles/(permissions/(update|remove)|delete)", {404}, "an unknown ID"),
        (r"POST 2/users/create-ui", {400}, "the form's CSRF token is missing"),
        (r"POST 3/demo/generate", {400}, "there is one demo data set, so concurrent calls fail"),
        (r"POST 3/mcp-servers", {200, 400}, "callers that change nothing create it once for both prefixes"),
    ],
    "both": [
        (r"GET /graphql", {500}, "MLflow expects the query in the body, which a GET does not have"),
        (r"\w+ 2-artifacts/(mpu|presigned)/.*", {501}, "artifacts go through the server"),
        (r"POST 2/artifacts/presigned-\w+-url", {400}, "artifacts go through the server"),
        (
            # Matches the path, since the correctly spelled route has the same key and must succeed.
            r"POST /(ajax-)?api/2\.0mlflow/experiments/search-datasets",
            {403, 404},
            "MLflow also lists the route without a slash, for which it has no handler",
        ),
        (r"POST /gateway/.*", {400, 422}, "a guardrail stops the call before it is sent to a provider"),
        (r"POST 3/(scorer/invoke|issues/invoke|genai/evaluate/invoke)", {400, 500, 501}, "jobs are disabled"),
        (
            r"POST 2/traces/link-prompts",
            {200, 400},
            "MLflow stores a prompt's name and version in 36 characters, which the test's names exceed",
        ),
        (r"(GET|POST) 2/gateway-proxy", {400, 404, 500}, "there is no deployments server behind it"),
    ],
}
# Not called with permission, since they would affect more than the test's objects.
UNTRIED = (
    "POST 3/demo/generate",
    "POST 3/demo/delete",
    "POST 2/webhooks/{webhook_id}/test",
    "POST /oidc/webhook/{webhook_id}/test",
)

# Statuses for unauthenticated callers, if other than 401.
UNKNOWN = [
    (r"/oidc/trash/.*", {403}, "the administrators' page answers"),
    (r"/scim/v2/.*", {401, 429}, "too many attempts are rate-limited"),
]


def refusals(key):
    """Return the statuses that refuse an unauthenticated caller."""
    path = key.partition(" ")[2]
    return next((statuses for pattern, statuses, _unused in UNKNOWN if re.fullmatch(pattern, path)), {401})


# Exceptions to the rules, with the reason.
_COMPACT = r"POST /gateway/openai/v1/responses/compact"
EXCEPTIONS = {
    "oidc": [
        (_COMPACT, ("owner", "editor", "service"), False, "mlflow-oidc-auth does not find the endpoint's owner"),
        (r"POST 2/gateway-proxy", ("owner", "editor", "service"), False, "the call names an unknown endpoint"),
        (r"POST 3/review-queues/get-or-create-user", ("service",), False, "only users have their own queues"),
    ],
    "basic": [
        (_COMPACT, ("other", "reader"), True, "MLflow looks for the endpoint before it authenticates the caller")
    ],
}


def exception(key, caller, plugin):
    """Return whether a caller is allowed, for exceptions to the rules; None if there is no exception."""
    for pattern, callers, may, _unused in EXCEPTIONS[plugin]:
        if caller in callers and re.fullmatch(pattern, key):
            return may
    return None
