"""Keycloak's admin API, for objects of the tests in the realm."""

import base64
import contextlib

import requests

from tests.lib import stack as stacks


class Keycloak:
    """Creates clients in the realm, and valid tokens for them."""

    def __init__(self, stack, mark):
        self._url, self._mark, self._made = stack.keycloak_url, mark, []
        realm = stack.variables.get("keycloak_realm", "mlflow")
        self.issuer = f"{self._url}/realms/{realm}"
        self._name = realm
        data = stack.core.read_namespaced_secret("keycloak-admin", stacks.NAMESPACES["keycloak"]).data
        self._credentials = tuple(base64.b64decode(data[key]).decode() for key in ("username", "password"))

    @property
    def admins(self):
        """Return an access token of Keycloak's administrator, who is in another realm; it is valid for a minute."""
        return self.token("admin-cli", *self._credentials, realm="master")

    def version(self):
        """Return the version that serves."""
        return self._admin("GET", "serverinfo").json()["systemInfo"]["version"]

    def ask(self, method, path, body=None, realm=None):
        """Send a request on a realm to Keycloak's admin API."""
        return self._admin(method, f"realms/{realm or self._name}/{path}", body)

    def _admin(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.admins}"}
        answer = requests.request(method, f"{self._url}/admin/{path}", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer

    def token(self, client, user, password, realm=None):
        """Return an access token for a user's name and password."""
        issuer = self.issuer if realm is None else f"{self._url}/realms/{realm}"
        fields = {"grant_type": "password", "client_id": client, "username": user, "password": str(password)}
        fields["scope"] = "openid profile email"
        answer = requests.post(f"{issuer}/protocol/openid-connect/token", data=fields, timeout=60)
        answer.raise_for_status()
        return answer.json()["access_token"]

    def client(self, name, audience, realm=None):
        """Create a public client whose tokens have `audience`; return its ID."""
        mappers = [
            {
                "name": "groups",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-group-membership-mapper",
                "config": {"claim.name": "groups", "full.path": "false", "access.token.claim": "true"},
            },
            {
                "name": "audience",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": {"included.custom.audience": audience, "access.token.claim": "true"},
            },
        ]
        body = {
            "clientId": f"{self._mark}-{name}",
            "publicClient": True,
            "standardFlowEnabled": False,
            "directAccessGrantsEnabled": True,
            "fullScopeAllowed": False,
            "protocolMappers": mappers,
            # Valid for the whole test run, so that they are not refused because they have expired.
            "attributes": {"access.token.lifespan": "7200"},
        }
        self._keep("clients", body, realm)
        return body["clientId"]

    def user(self, name, password, groups=()):
        """Create a user who can log in, as a member of existing groups."""
        body = {
            "username": f"{self._mark}-{name}",
            "email": f"{self._mark}-{name}@example.com",
            "firstName": "Some",
            "lastName": "Body",
            "enabled": True,
            "groups": list(groups),
            "credentials": [{"type": "password", "value": str(password), "temporary": False}],
        }
        self._keep("users", body)
        return body["username"]

    def _keep(self, kind, body, realm=None):
        made = self.ask("POST", kind, body, realm)
        self._made.append((f"{kind}/{made.headers['Location'].rpartition('/')[2]}", realm))

    def clear(self):
        for path, realm in self._made:
            self.ask("DELETE", path, realm=realm)

    def admins_for(self, audience):
        """Return a token like `admins` with `audience` and a longer lifetime."""
        return self.token(self.client("elsewhere", audience, "master"), *self._credentials, realm="master")

    @contextlib.contextmanager
    def access_tokens_last(self, client, seconds):
        """Set the lifetime of a client's access tokens, and restore it afterwards."""
        found = self.ask("GET", f"clients?clientId={client}").json()[0]
        changed = {**found, "attributes": {**found["attributes"], "access.token.lifespan": str(seconds)}}
        self.ask("PUT", f"clients/{found['id']}", changed)
        try:
            yield
        finally:
            before = found["attributes"].get("access.token.lifespan", "")
            attributes = {**found["attributes"], "access.token.lifespan": before}
            self.ask("PUT", f"clients/{found['id']}", {**found, "attributes": attributes})

    def key(self):
        """Return the realm's public signing key."""
        listed = requests.get(f"{self.issuer}/protocol/openid-connect/certs", timeout=60).json()["keys"]
        return next(key for key in listed if key.get("use") == "sig" and key["kty"] == "RSA")
