"""Each provider's generated configuration, validated by oauth2-proxy itself.

GitHub and Google cannot be reached. oauth2-proxy validates both configurations, and calls a server that imitates
GitHub's API.
"""

import http.server
import json
import threading
import urllib.parse

import access_token
import certifi
import pytest

from tests.lib import proxied, rendering

BASE = {"mlflow_image": "localhost/mlflow:1", "mlflow_auth": "oauth2_proxy"}
SECRETS = {
    "keys/bridge-password": "the-password-of-the-bridge-0123456789",
    "keys/cookie-secret": "0123456789abcdef0123456789abcdef",
    "client/client-secret": "the secret of the client",
    "ca/ca.crt": certifi.contents(),
    # A key that was generated for this file and is used nowhere else.
    "client/service-account.json": json.dumps({"type": "service_account", "client_email": "a@example.com"}),
}
CLIENT = {"MLOPS_CLIENT_ID": "1234567890"}


@pytest.fixture(scope="module")
def role():
    return rendering.Role("mlflow")


def configured(role, **options):
    """Return the alpha configuration and the arguments that the role generates for these options."""
    options = BASE | options
    alpha = role.render("mlflow-oauth2-proxy.configmap.yaml.j2", options)[0]["data"]["alpha.yaml"]
    deployment = role.render("mlflow-oauth2-proxy.deployment.yaml.j2", options)[0]
    return json.loads(alpha), deployment["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="keycloak"),
        pytest.param(
            {
                "platform_components": ["mlflow"],
                "mlflow_oidc_issuer": "https://login.example.com/",
                "mlflow_oidc_username_claim": "upn",
                "mlflow_oauth2_proxy_email_domains": ["example.com", "example.org"],
                "mlflow_oidc_ca_secret": "company-ca",
                "mlflow_oidc_scopes": ["openid", "email"],
                "mlflow_oauth2_proxy_provider_options": {"allowedGroups": []},
                "mlflow_url": "https://mlflow.example.com",
                "mlflow_trusted_proxies": ["10.0.0.0/8", "192.168.1.1"],
                "mlflow_oauth2_proxy_sign_in_page": False,
            },
            id="oidc elsewhere",
        ),
        pytest.param(
            {
                "mlflow_oauth2_proxy_provider": "github",
                "mlflow_oauth2_proxy_github_org": "example",
                "mlflow_oauth2_proxy_github_teams": ["data", "ops"],
                "mlflow_oauth2_proxy_github_users": ["octocat"],
            },
            id="github",
        ),
        pytest.param(
            {
                "mlflow_oauth2_proxy_provider": "google",
                "mlflow_oauth2_proxy_google_groups": ["mlflow@example.com"],
                "mlflow_oauth2_proxy_google_admin_email": "admin@example.com",
            },
            id="google by group",
        ),
        pytest.param(
            {"mlflow_oauth2_proxy_provider": "google", "mlflow_oauth2_proxy_email_domains": ["example.com"]},
            id="google by domain",
        ),
    ],
)
def test_oauth2_proxy_accepts_the_configuration(role, proxy_program, tmp_path, options):
    code, words = proxied.checked(tmp_path, configured(role, **options), SECRETS, CLIENT)
    assert (code, words.strip().splitlines()[-1]) == (0, "configuration is valid"), words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"mlflow_oauth2_proxy_provider_options": {"cliendID": "x"}}, "cliendID", id="misspelt"),
        pytest.param({"mlflow_oauth2_proxy_session_refresh": 86400}, "cookie_refresh", id="refresh"),
    ],
)
def test_oauth2_proxy_refuses_wrong_configurations(role, proxy_program, tmp_path, options, words):
    code, output = proxied.checked(tmp_path, configured(role, **options), SECRETS, CLIENT)
    assert code != 0
    assert words in output


class _GitHub(http.server.BaseHTTPRequestHandler):
    """The part of GitHub's API that oauth2-proxy calls; the test sets the user."""

    protocol_version = "HTTP/1.1"
    user = None

    def do_GET(self):
        place = urllib.parse.urlsplit(self.path)
        if place.path == "/login/oauth/authorize":
            asked = proxied.query(self.path)
            back = urllib.parse.urlencode({"code": "code", "state": asked["state"]})
            self.answer(302, {}, {"Location": f"{asked['redirect_uri']}?{back}"})
            return
        assert self.headers["Authorization"] == "token the-token"
        first = dict(urllib.parse.parse_qsl(place.query)).get("page", "1") == "1"
        user = self.user
        found = {
            "/": {},
            "/user": {"login": user["login"], "email": user["email"]},
            "/user/emails": [{"email": user["email"], "primary": True, "verified": True}],
            "/user/orgs": [{"login": each} for each in user["orgs"]] if first else [],
            "/user/teams": [{"name": team, "slug": team, "organization": {"login": org}} for org, team in user["teams"]]
            if first
            else [],
        }
        self.answer(200, found[place.path])

    def do_POST(self):
        sent = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        assert sent["client_id"] == CLIENT["MLOPS_CLIENT_ID"]
        assert sent["client_secret"] == SECRETS["client/client-secret"]
        self.answer(200, {"access_token": "the-token"})

    def answer(self, status, content, headers=None):
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(text), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_unused):
        pass


@pytest.fixture(scope="module")
def github(role, echo, proxy_program, tmp_path_factory):
    """A function that logs a user in; it returns the callback's status and the user that MLflow receives."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _GitHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{server.server_address[1]}"
    configuration = configured(
        role,
        mlflow_oauth2_proxy_provider="github",
        mlflow_oauth2_proxy_github_org="example",
        mlflow_oauth2_proxy_github_teams=["data", "ops"],
        mlflow_oauth2_proxy_github_users=["invited"],
        mlflow_oauth2_proxy_provider_options={
            "loginURL": f"{there}/login/oauth/authorize",
            "redeemURL": f"{there}/login/oauth/access_token",
            "validateURL": f"{there}/",
        },
    )
    folder = tmp_path_factory.mktemp("github")
    with proxied.running(folder, configuration, SECRETS, echo, environment=CLIENT) as url:
        public = "http://localhost:30800"

        def log_in(login, orgs=(), teams=()):
            _GitHub.user = {"login": login, "email": f"{login}@example.com", "orgs": orgs, "teams": teams}
            session = access_token.new_session()
            page = session.get(f"{url}/oauth2/start", params={"rd": "/"}, timeout=60, allow_redirects=False)
            back = session.get(page.headers["Location"], timeout=60, allow_redirects=False).headers["Location"]
            assert back.startswith(f"{public}/oauth2/callback?")
            answer = session.get(url + back.removeprefix(public), timeout=60, allow_redirects=False)
            reached = session.get(f"{url}/x", timeout=60)
            named = [
                proxied.basic(value)
                for name, value in (reached.json()["headers"] if reached.ok else [])
                if name.lower() == "authorization"
            ]
            return answer.status_code, named

        yield log_in
    server.shutdown()


def test_team_members_are_admitted_by_login_name(github):
    status, named = github("Octo-Cat", ["example"], [("example", "ops")])
    assert (status, named) == (302, [("Octo-Cat", SECRETS["keys/bridge-password"])])


@pytest.mark.parametrize(
    ("orgs", "teams"),
    [
        pytest.param([], [], id="nowhere"),
        pytest.param(["example"], [], id="in no team"),
        pytest.param(["example"], [("example", "sales")], id="in another team"),
        pytest.param(["other"], [("other", "ops")], id="in a team of that name elsewhere"),
    ],
)
def test_other_github_users_are_refused(github, orgs, teams):
    status, named = github("outsider", orgs, teams)
    assert status in (403, 500)
    assert named == []


def test_named_users_are_admitted_in_addition(github):
    assert github("invited") == (302, [("invited", SECRETS["keys/bridge-password"])])
