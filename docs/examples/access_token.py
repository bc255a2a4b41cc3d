"""Log in as a user and create an access token for MLflow clients.

Usage: python access_token.py --mlflow-url URL --user NAME [--name TOKEN] [--days N]

The password is read from the environment variable MLFLOW_LOGIN_PASSWORD, prompted for at a terminal, or read from
standard input; never from the command line, which every process of the machine can see. The token is written to
standard output; use it as MLFLOW_TRACKING_PASSWORD.

The script logs in as a browser does (OpenID Connect's code flow through Keycloak's login page), since only a user who
is logged in can create a token: https://github.com/mlflow-oidc/mlflow-oidc-auth. It needs only `requests`.
"""

import argparse
import datetime
import getpass
import html.parser
import http.cookiejar
import os
import sys
import urllib.parse

import requests

TOKENS = "/api/2.0/mlflow/users/current/tokens"
TIMEOUT = 60


class LoginError(Exception):
    """A failed login; the message is one sentence for the user."""


class _Form(html.parser.HTMLParser):
    """Parser for the form of Keycloak's login page: its action and its hidden fields."""

    def __init__(self):
        super().__init__()
        self.action = None
        self.fields = {}
        self._inside = False

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "form" and attributes.get("id") == "kc-form-login":
            self._inside = True
            self.action = attributes.get("action")
        elif tag == "input" and self._inside and attributes.get("type") == "hidden" and attributes.get("name"):
            self.fields[attributes["name"]] = attributes.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "form":
            self._inside = False


class _BrowserPolicy(http.cookiejar.DefaultCookiePolicy):
    """Cookie policy that sends `Secure` cookies to http://localhost, as browsers do and Python does not."""

    def set_ok(self, cookie, request):
        if urllib.parse.urlsplit(request.get_full_url()).hostname in ("localhost", "127.0.0.1"):
            cookie.secure = False
        return super().set_ok(cookie, request)


def new_session():
    """Return a `requests.Session` that handles cookies as a browser does."""
    session = requests.Session()
    session.cookies.set_policy(_BrowserPolicy())
    return session


def login(mlflow_url, user, password, session=None):
    """Log in with the code flow.

    Args:
        mlflow_url: MLflow's public URL, without a path.
        user: the user name at the login page.
        password: the user's password.
        session: a `requests.Session` to log in with; by default one of `new_session`.

    Returns:
        The session, which now holds MLflow's session cookie.

    Raises:
        LoginError: wrong name or password, or a page that is not Keycloak's login page.
        requests.RequestException: a server that does not answer.
    """
    session = session or new_session()
    page = session.get(f"{mlflow_url}/login", timeout=TIMEOUT)
    form = _Form()
    form.feed(page.text)
    if not form.action:
        raise LoginError(f"{page.url.split('?')[0]} answered {page.status_code} and no login form")
    answer = session.post(
        form.action,
        data={**form.fields, "username": user, "password": password},
        timeout=TIMEOUT,
    )
    home = urllib.parse.urlsplit(mlflow_url)
    place = urllib.parse.urlsplit(answer.url)
    if (place.scheme, place.netloc) != (home.scheme, home.netloc):
        raise LoginError(f"the identity provider refused {user} (HTTP {answer.status_code}): wrong name or password")
    refusal = urllib.parse.parse_qs(place.query).get("error")
    if refusal:
        raise LoginError(f"MLflow refused {user}: {'; '.join(refusal)}")
    answer.raise_for_status()
    return session


def mint(mlflow_url, session, name="cli", days=30):
    """Create a named token; it replaces one of the same name.

    Args:
        mlflow_url: MLflow's public URL.
        session: a session that `login` returned.
        name: the token's name, unique for each user.
        days: the lifetime, at most 365.

    Returns:
        The token.

    Raises:
        requests.HTTPError: MLflow refused the request.
    """
    listed = session.get(mlflow_url + TOKENS, timeout=TIMEOUT)
    listed.raise_for_status()
    for token in listed.json()["tokens"]:
        if token["name"] == name:
            session.delete(f"{mlflow_url}{TOKENS}/{token['id']}", timeout=TIMEOUT).raise_for_status()
    expiration = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = session.post(
        mlflow_url + TOKENS,
        json={"name": name, "expiration": expiration.isoformat(timespec="seconds")},
        timeout=TIMEOUT,
    )
    made.raise_for_status()
    return made.json()["token"]


def works(mlflow_url, user, token):
    """Return whether MLflow accepts this token for this user."""
    try:
        answer = requests.get(f"{mlflow_url}/api/2.0/mlflow/users/current", auth=(user, token), timeout=TIMEOUT)
    except requests.RequestException:
        return False
    return answer.status_code == 200


def _password(user):
    if "MLFLOW_LOGIN_PASSWORD" in os.environ:
        return os.environ["MLFLOW_LOGIN_PASSWORD"]
    if sys.stdin.isatty():
        return getpass.getpass(f"Password of {user}: ")
    return sys.stdin.readline().rstrip("\r\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mlflow-url", default=os.environ.get("MLFLOW_TRACKING_URI"), help="MLflow's public URL")
    parser.add_argument("--user", required=True, help="the user name at the login page")
    parser.add_argument("--name", default="cli", help="the token's name; a token of the same name is replaced")
    parser.add_argument("--days", type=int, default=30, help="lifetime in days, at most 365")
    arguments = parser.parse_args()
    if not arguments.mlflow_url:
        parser.error("--mlflow-url or MLFLOW_TRACKING_URI is needed")
    url = arguments.mlflow_url.rstrip("/")
    try:
        session = login(url, arguments.user, _password(arguments.user))
        print(mint(url, session, arguments.name, arguments.days))
    except (LoginError, requests.RequestException) as error:
        sys.exit(f"No token: {error}")


if __name__ == "__main__":
    main()
