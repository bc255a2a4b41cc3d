"""The callers of the matrix: users, programs, and callers with invalid credentials."""

import base64
import contextlib
import dataclasses
import hmac
import json
import secrets
import urllib.parse

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.lib import stack as stacks
from tests.lib.keycloak_admin import Keycloak
from tests.lib.matrix_world import Client, basic, make_world

# Authenticated callers, each with a world of its own.
CALLERS = ("owner", "reader", "editor", "service", "other", "admin")
CHANGE_NOTHING = ("reader", "other")
# Invalid callers that call every route; their variants call one route in twenty.
EVERYWHERE = (
    "anonymous",
    "wrong password",
    "expired token",
    "revoked token",
    "token of a deleted user",
    "JWT of another key",
    "JWT of algorithm none",
    "JWT for another audience",
    "JWT of another issuer",
)


@dataclasses.dataclass
class Callers:
    """All callers of the matrix.

    Attributes:
        names: account names by caller.
        clients: a Client by caller.
        refused: a Client by the defect of its credentials; all must be refused.
        groups: group names by the caller whose permissions they have; a role with basic.
        accounts: further accounts for calls on accounts, by their use.
        grants: grants permissions to users and groups.
        bearer: a Client of demo-user with a valid token of the identity provider, or None.
    """

    names: dict
    clients: dict
    refused: dict
    groups: dict
    accounts: dict
    grants: object
    bearer: Client | None = None


# Accounts and groups as created by a login, and tokens as created by the tokens page.
_MAKE = r"""
import datetime, json, sys
from mlflow_oidc_auth.store import store
from mlflow_oidc_auth.db.models import SqlUserToken
asked = json.load(sys.stdin)
now = datetime.datetime.now(datetime.timezone.utc)
store.populate_groups(asked["groups"])
tokens = {}
for name, groups, program in asked["users"]:
    more = {"service_account_source": "internal"} if program else {}
    store.create_user(name, name, is_service_account=program, written_by="manual", **more)
    store.set_user_groups(name, groups, written_by="manual")
    record, tokens[name] = store.create_user_token(name, "matrix", now + datetime.timedelta(days=1), created_by=name)
owner = asked["owner"]
soon, later = now + datetime.timedelta(hours=1), now + datetime.timedelta(days=1)
expired, tokens["expired"] = store.create_user_token(owner, "expired", soon, created_by=owner)
with store.ManagedSessionMaker(read_only=False) as session:
    row = session.query(SqlUserToken).filter(SqlUserToken.id == expired.id).one()
    row.expires_at = (now - datetime.timedelta(minutes=1)).replace(tzinfo=None)
revoked, tokens["revoked"] = store.create_user_token(owner, "revoked", later, created_by=owner)
store.delete_user_token(owner, revoked.id)
store.delete_user(asked["deleted"], admin_override=True)
print(json.dumps(tokens))
"""

_REMOVE = r"""
import json, sys
from mlflow_oidc_auth.store import store
from mlflow_oidc_auth.db.models import SqlGroup
asked = json.load(sys.stdin)
for name in store.list_usernames(False) + store.list_usernames(True):
    if name.startswith(asked["prefix"]):
        store.delete_user(name, admin_override=True)
with store.ManagedSessionMaker(read_only=False) as session:
    groups = [row.id for row in session.query(SqlGroup).filter(SqlGroup.group_name.startswith(asked["prefix"]))]
    for table in reversed(SqlGroup.metadata.sorted_tables):
        if "group_id" in table.c:
            session.execute(table.delete().where(table.c.group_id.in_(groups)))
    session.execute(SqlGroup.__table__.delete().where(SqlGroup.id.in_(groups)))
"""


def _word(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwt(header, claims, key=None, algorithm="RS256", secret=b""):
    """Return a hand-made JWT, which may be invalid in any way."""
    text = ".".join(_word(json.dumps(part).encode()) for part in (header, claims))
    signature = b""
    if algorithm == "RS256":
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    elif algorithm == "HS256":
        signature = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{_word(signature)}"


class OidcGrants:
    """Grants permissions with the API of mlflow-oidc-auth."""

    # The path of grants by kind of object.
    PLACES = {  # noqa: RUF012  a constant
        "experiment": "experiments",
        "registered_model": "registered-models",
        "prompt": "prompts",
        "scorer": "scorers",
        "gateway_endpoint": "gateways/endpoints",
        "gateway_model_definition": "gateways/model-definitions",
        "gateway_secret": "gateways/secrets",
        "mcp_server": "mcp-servers",
    }

    def __init__(self, admin):
        self._admin = admin

    def _give(self, subject, kind, name, permission):
        self._admin.made(
            "POST",
            f"/api/2.0/mlflow/permissions/{subject}/{self.PLACES[kind]}/{urllib.parse.quote(name, safe='/')}",
            {"permission": permission},
        )

    def user(self, user, kind, name, permission):
        self._give(f"users/{user}", kind, name, permission)

    def group(self, group, kind, name, permission):
        self._give(f"groups/{group}", kind, name, permission)


class BasicGrants:
    """Grants permissions with the API of MLflow's basic-auth, where a group is a role."""

    API = "/api/3.0/mlflow"

    def __init__(self, admin, roles, ids):
        self._admin, self._roles, self._ids = admin, roles, ids

    def user(self, user, kind, name, permission):
        body = {"username": user, "permission": permission, "resource_type": kind}
        self._admin.made("POST", f"{self.API}/users/permissions/grant", body | {"resource_id": self._id(kind, name)})

    def group(self, group, kind, name, permission):
        body = {"role_id": self._roles[group], "permission": permission, "resource_type": kind}
        self._admin.made("POST", f"{self.API}/roles/permissions/add", body | {"resource_pattern": self._id(kind, name)})

    def role(self, group):
        return self._roles[group]

    def numbered(self, w):
        """Record the IDs of a world's gateway objects."""
        for end in ("", "_doomed", "_spare"):
            for kind, what in (("secret", "secret"), ("model_definition", "definition"), ("endpoint", "endpoint")):
                self._ids[f"gateway_{kind}", getattr(w, f"{what}_name{end}")] = getattr(w, f"{what}{end}")

    def _id(self, kind, name):
        # basic-auth identifies gateway objects by ID, all others by name.
        return self._ids.get((kind, name), name)


def things(w):
    """Return the objects of a world that can have permissions, as pairs of kind and name."""
    which = ("", "_doomed", "_spare")
    return [
        *(("experiment", getattr(w, f"experiment{end}")) for end in (*which, "_gone")),
        *(("registered_model", getattr(w, name)) for name in ("model", "model_doomed", "model_renamed")),
        ("prompt", w.prompt),
        *(("scorer", f"{w.experiment}/{name}") for name in (w.scorer, w.scorer_doomed)),
        *(("gateway_secret", getattr(w, f"secret_name{end}")) for end in which),
        *(("gateway_model_definition", getattr(w, f"definition_name{end}")) for end in which),
        *(("gateway_endpoint", getattr(w, f"endpoint_name{end}")) for end in which),
        *(("mcp_server", name) for name in (w.server, w.server_doomed)),
    ]


def admin_client(stack):
    """Return name and Client of the administrator account of the playbooks."""
    data = stack.core.read_namespaced_secret("mlflow-admin", stacks.NAMESPACES["mlflow"]).data
    name, password = (base64.b64decode(data[key]).decode() for key in ("username", "password"))
    return name, Client(stack.mlflow_url, basic(name, password))


def _part(token, number):
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def tokens_of_keycloak(stack, keycloak, audience):
    """Return one valid JWT, and invalid ones by their defect."""
    user, password = stacks.USER, stack.password(stacks.USER)
    right = keycloak.token(keycloak.client("right", audience), user, password)
    header, claims = _part(right, 0), _part(right, 1)
    assert claims["iss"] == keycloak.issuer, claims["iss"]
    ours = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    known = keycloak.key()
    numbers = (int.from_bytes(base64.urlsafe_b64decode(known[part] + "=="), "big") for part in ("e", "n"))
    public = rsa.RSAPublicNumbers(*numbers).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = right.split(".")
    changed = {**claims, "preferred_username": stacks.ADMIN, "groups": ["mlflow-admins"]}
    wrong = {
        "JWT of another key": _jwt(header, claims, ours),
        "JWT of another key by another name": _jwt({**header, "kid": "other"}, claims, ours),
        "JWT of algorithm none": _jwt({"alg": "none", "typ": "JWT"}, claims, algorithm="none"),
        "JWT signed with the public key": _jwt({**header, "alg": "HS256"}, claims, algorithm="HS256", secret=pem),
        "JWT with other claims": ".".join((body[0], _word(json.dumps(changed).encode()), body[2])),
        "JWT without a signature": ".".join((*body[:2], "")),
        "JWT for another audience": keycloak.token(keycloak.client("wrong", "another"), user, password),
        "JWT of another issuer": keycloak.admins_for(audience),
        "JWT that names another issuer": _jwt(header, {**claims, "iss": "http://localhost/realms/other"}, ours),
        "JWT of yesterday": _jwt(header, {**claims, "exp": claims["iat"] - 86400}, ours),
    }
    return right, wrong


@contextlib.contextmanager
def oidc(stack, mark):
    """Create all callers on a stack that uses Keycloak; remove them afterwards."""
    names = {caller: f"{mark}-{caller}" for caller in CALLERS if caller != "admin"}
    names["admin"], admin = admin_client(stack)
    groups = {"reader": f"{mark}-readers", "editor": f"{mark}-editors"}
    accounts = {which: f"{mark}-{which}" for which in ("old", "new", "doomed")}
    users = [
        (names["owner"], [], False),
        (names["other"], [], False),
        (names["reader"], [groups["reader"]], False),
        (names["editor"], [groups["editor"]], False),
        (names["service"], [], True),
        (f"{mark}-deleted", [], False),
        *((name, [], False) for name in accounts.values()),
    ]
    asked = {
        "groups": [*groups.values(), *(f"{name}-group" for name in accounts.values())],
        "users": users,
        "owner": names["owner"],
        "deleted": f"{mark}-deleted",
    }
    url, keycloak = stack.mlflow_url, None
    try:
        made = stack.execute("mlflow", "python", "-c", _MAKE, text=json.dumps(asked))
        tokens = {name: stacks.Hidden(token) for name, token in json.loads(made.splitlines()[-1]).items()}
        clients = {
            caller: admin if caller == "admin" else Client(url, basic(name, tokens[name]))
            for caller, name in names.items()
        }
        owner = names["owner"]
        refused = {
            "anonymous": Client(url),
            "wrong password": Client(url, basic(owner, "wrong")),
            "token of another user": Client(url, basic(owner, tokens[names["other"]])),
            "expired token": Client(url, basic(owner, tokens["expired"])),
            "revoked token": Client(url, basic(owner, tokens["revoked"])),
            "token of a deleted user": Client(url, basic(f"{mark}-deleted", tokens[f"{mark}-deleted"])),
        }
        keycloak = Keycloak(stack, mark)
        right, wrong = tokens_of_keycloak(stack, keycloak, stack.variables.get("mlflow_oidc_client_id", "mlflow"))
        refused |= {name: Client(url, f"Bearer {token}") for name, token in wrong.items()}
        refused["JWT as a password"] = Client(url, basic(stacks.USER, right))
        yield Callers(names, clients, refused, groups, accounts, OidcGrants(admin), Client(url, f"Bearer {right}"))
    finally:
        if keycloak:
            keycloak.clear()
        stack.execute("mlflow", "python", "-c", _REMOVE, text=json.dumps({"prefix": mark}))


def world(label, caller, callers, plugin):
    """Create a world of the owner's objects, with the permissions of one caller."""
    admin, grants = callers.clients["admin"], callers.grants

    def share(kind, name):
        grants.user(callers.names["owner"], kind, name, "MANAGE")

    members = list(callers.names.values())
    w = make_world(label, callers.clients["owner"], admin, share=share, members=members)
    if plugin == "basic":
        grants.numbered(w)
        # Permissions that administrators add to a role must not affect the test.
        w.role = grants.role(callers.groups["none" if caller == "admin" else "reader"])
        w.account = f"{w.label}-account"
        if caller == "admin":
            body = {"username": w.account, "password": secrets.token_urlsafe(24)}
            admin.made("POST", "/api/2.0/mlflow/users/create", body)
    for kind, name in things(w):
        if caller in callers.groups:
            grants.group(callers.groups[caller], kind, name, {"reader": "READ", "editor": "EDIT"}[caller])
        elif caller == "service":
            grants.user(callers.names[caller], kind, name, "EDIT")
    w.caller = callers.names[caller]
    if plugin == "oidc":
        _more_of_oidc(w, caller, callers)
    return w


# The paths of pattern permissions in the API.
PATTERNS = (
    "experiment-patterns",
    "registered-models-patterns",
    "prompts-patterns",
    "scorer-patterns",
    "gateways/endpoints-patterns",
    "gateways/model-definitions-patterns",
    "gateways/secrets-patterns",
)


def _more_of_oidc(w, caller, callers):
    """Create what the routes of mlflow-oidc-auth change: permissions of other accounts, and an account."""
    admin, accounts = callers.clients["admin"], callers.accounts
    about = ("experiment", w.experiment), ("registered_model", w.model), ("prompt", w.prompt)
    about += ("scorer", f"{w.experiment}/{w.scorer}"), ("gateway_endpoint", w.endpoint_name)
    about += ("gateway_secret", w.secret_name), ("gateway_model_definition", w.definition_name)
    about += (("mcp_server", w.server),)
    for which in ("old", "doomed"):
        for kind, name in about:
            callers.grants.user(accounts[which], kind, name, "READ")
            callers.grants.group(f"{accounts[which]}-group", kind, name, "READ")
    w.patterns, w.account = {}, f"{w.label}-account"
    if caller != "admin":
        return
    admin.made("POST", "/api/2.0/mlflow/users", {"username": w.account, "display_name": "x"})
    for place, end in (("users", ""), ("groups", "-group")):
        for pattern in PATTERNS:
            at = f"/api/2.0/mlflow/permissions/{place}/{accounts['old']}{end}/{pattern}"
            names = [f"^{w.label}-nothing-{number}$" for number in (1, 2)]
            for name in names:
                admin.made("POST", at, {"regex": name, "priority": 1, "permission": "READ"})
            found = {each["regex"]: each["id"] for each in admin.made("GET", at)}
            w.patterns[place, pattern] = tuple(found[name] for name in names)


@contextlib.contextmanager
def basic_auth(stack, mark):
    """Create all callers on a stack with MLflow's own accounts; remove them afterwards."""
    names = {caller: f"{mark}-{caller}" for caller in CALLERS if caller != "admin"}
    names["admin"], admin = admin_client(stack)
    groups = {"reader": f"{mark}-readers", "editor": f"{mark}-editors", "none": f"{mark}-empty"}
    accounts = {which: f"{mark}-{which}" for which in ("old", "new", "doomed")}
    passwords = {name: stacks.Hidden(secrets.token_urlsafe(24)) for name in (*names.values(), *accounts.values())}
    url, deleted, made, roles = stack.mlflow_url, f"{mark}-deleted", [], {}
    passwords[deleted] = stacks.Hidden(secrets.token_urlsafe(24))
    try:
        for name, password in passwords.items():
            if name != names["admin"]:
                body = {"username": name, "password": str(password)}
                admin.made("POST", "/api/2.0/mlflow/users/create", body)
                made.append(name)
        for name in groups.values():
            body = {"name": name, "workspace": "default"}
            roles[name] = admin.made("POST", "/api/3.0/mlflow/roles/create", body)["role"]["id"]
        for caller in ("reader", "editor"):
            body = {"username": names[caller], "role_id": roles[groups[caller]]}
            admin.made("POST", "/api/3.0/mlflow/roles/assign", body)
        clients = {
            caller: admin if caller == "admin" else Client(url, basic(name, passwords[name]))
            for caller, name in names.items()
        }
        # A former password.
        body = {"username": names["owner"], "password": secrets.token_urlsafe(24)}
        admin.made("PATCH", "/api/2.0/mlflow/users/update-password", body)
        before, passwords[names["owner"]] = passwords[names["owner"]], stacks.Hidden(body["password"])
        clients["owner"] = Client(url, basic(names["owner"], passwords[names["owner"]]))
        admin.made("DELETE", "/api/2.0/mlflow/users/delete", {"username": deleted})
        ours = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        claims = {"sub": names["admin"], "preferred_username": names["admin"], "exp": 4102444800}
        elsewhere, header = {**claims, "iss": "http://localhost/realms/other"}, {"alg": "RS256", "kid": "x"}
        refused = {
            "anonymous": Client(url),
            "wrong password": Client(url, basic(names["owner"], "wrong")),
            "revoked token": Client(url, basic(names["owner"], before)),
            "token of another user": Client(url, basic(names["owner"], passwords[names["other"]])),
            "token of a deleted user": Client(url, basic(deleted, passwords[deleted])),
            "JWT of another key": Client(url, f"Bearer {_jwt(header, claims, ours)}"),
            "JWT of algorithm none": Client(url, f"Bearer {_jwt({'alg': 'none'}, claims, algorithm='none')}"),
            "JWT for another audience": Client(url, f"Bearer {_jwt(header, {**claims, 'aud': 'another'}, ours)}"),
            "JWT of another issuer": Client(url, f"Bearer {_jwt(header, elsewhere, ours)}"),
        }
        yield Callers(names, clients, refused, groups, accounts, BasicGrants(admin, roles, {}))
    finally:
        for role in roles.values():
            admin.ask("DELETE", "/api/3.0/mlflow/roles/delete", {"role_id": role})
        for name in made:
            admin.ask("DELETE", "/api/2.0/mlflow/users/delete", {"username": name})
