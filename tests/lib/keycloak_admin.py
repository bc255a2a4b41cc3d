"""Keycloak's admin API, for what tests make and change in the realm."""

import base64
import contextlib

import requests

from tests.lib import stack as stacks


class Keycloak:
    """The realm's own tokens, true ones, for clients that are made for the purpose."""

    def __init__(self, stack, mark):
        self._url, self._mark, self._made = stack.keycloak_url, mark, []
        realm = stack.variables.get("keycloak_realm", "mlflow")
        self.issuer = f"{self._url}/realms/{realm}"
        self._name = realm
        data = stack.core.read_namespaced_secret("keycloak-admin", stacks.NAMESPACES["keycloak"]).data
        self._credentials = tuple(base64.b64decode(data[key]).decode() for key in ("username", "password"))

    @property
    def admins(self):
        """An access token of Keycloak's own administrator, who is of another realm; it holds for a minute."""
        return self.token("admin-cli", *self._credentials, realm="master")

    def ask(self, method, path, body=None, realm=None):
        """Sends a request about the realm, or another one, to Keycloak's admin API."""
        headers = {"Authorization": f"Bearer {self.admins}"}
        answer = requests.request(
            method, f"{self._url}/admin/realms/{realm or self._name}/{path}", json=body, headers=headers, timeout=60
        )
        answer.raise_for_status()
        return answer

    def token(self, client, user, password, realm=None):
        """The access token of a user's name and password."""
        issuer = self.issuer if realm is None else f"{self._url}/realms/{realm}"
        fields = {"grant_type": "password", "client_id": client, "username": user, "password": str(password)}
        fields["scope"] = "openid profile email"
        answer = requests.post(f"{issuer}/protocol/openid-connect/token", data=fields, timeout=60)
        answer.raise_for_status()
        return answer.json()["access_token"]

    def client(self, name, audience, realm=None):
        """Makes a public client whose tokens are for `audience`, in the realm or another one; returns its id."""
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
            # As long as the tests that show them, so that it is not their age that they are refused for.
            "attributes": {"access.token.lifespan": "7200"},
        }
        self._keep("clients", body, realm)
        return body["clientId"]

    def user(self, name, password, groups=()):
        """Makes a person who may log in, in groups that are there."""
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
        """A token like `admins`, for `audience`, that holds for longer."""
        return self.token(self.client("elsewhere", audience, "master"), *self._credentials, realm="master")

    @contextlib.contextmanager
    def access_tokens_last(self, client, seconds):
        """A client's access tokens hold for that long; afterwards as long as before."""
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
        """The realm's public key for signatures, and its name."""
        listed = requests.get(f"{self.issuer}/protocol/openid-connect/certs", timeout=60).json()["keys"]
        return next(key for key in listed if key.get("use") == "sig" and key["kty"] == "RSA")
