# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A walk through a stack that a drill has started in its pod: somebody logs in, and reads a run and an artifact.

The servers listen by http on 127.0.0.1, and know themselves by their public URLs. So requests have the host and the
scheme of the public URL, as an edge sends them on, and redirects to it are followed to the pod's own servers. Nobody
else is ever asked.
"""

import html.parser
import http.cookiejar
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import requests

from mlops_mlflow_server.databases import Failure

MLFLOW, KEYCLOAK = "http://127.0.0.1:5000", "http://127.0.0.1:8080"
CURRENT, GRANTS = "/api/2.0/mlflow/users/current", "/api/3.0/mlops/grants"
# Keycloak may have to migrate its database.
PATIENCE = 900
TIMEOUT = 60
MOST_REDIRECTS = 10
# Some realms ask for the name first, and for the password on the next page.
MOST_PAGES = 3
MANY_CHARACTERS = 300
CHUNK = 1 << 20
# Of classes of characters, for password policies that ask for them.
EACH_KIND = "aA1-"

Values = Mapping[str, Mapping[str, bytes]]


class _Cookies(http.cookiejar.DefaultCookiePolicy):
    """Sends `Secure` cookies by http too, since the pod has no TLS."""

    def set_ok(self, cookie: http.cookiejar.Cookie, request: Any) -> bool:
        cookie.secure = False
        return super().set_ok(cookie, request)


class Form(html.parser.HTMLParser):
    """A page of Keycloak's login: the action and the hidden fields of its form, and what it says to the user."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self._inside, self._depth, self._words = False, 0, [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and "/login-actions/" in given.get("action", ""):
            self._inside, self.action = True, given["action"]
        elif tag == "input" and self._inside and given.get("type") == "hidden" and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")
        if tag not in ("input", "br", "img"):
            tells = given.get("id", "") in ("kc-error-message", "kc-page-title") or "error" in given.get("id", "")
            self._depth += 1 if self._depth or tells else 0

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"
        self._depth -= 1 if self._depth and tag not in ("input", "br", "img") else 0

    def handle_data(self, data: str) -> None:
        if self._depth:
            self._words.append(data)

    @property
    def said(self) -> str:
        """What the page says, in one line."""
        return " ".join(" ".join(self._words).split())[:MANY_CHARACTERS] or "it says nothing"


def _session() -> requests.Session:
    """Return a session that the environment changes nothing of, such as proxies."""
    made = requests.Session()
    made.trust_env = False
    return made


class Browser:
    """What a browser or a client does with the public URLs, at the servers of this pod.

    Args:
        places: the server of each public URL.
        login: name and password that go with each request; none for a browser.
    """

    def __init__(self, places: Mapping[str, str], login: tuple[str, str] | None = None):
        # The longest first, since one URL may be below the other.
        self._places = sorted(places.items(), reverse=True)
        self._session = _session()
        self._session.cookies.set_policy(_Cookies())
        self._session.auth = login

    def ask(self, url: str, form: Mapping[str, str] | None = None, **options: Any) -> requests.Response:
        """Call a URL, with a form or none, without following redirects.

        Raises:
            Failure: it is none of the pod's servers, or does not answer.
        """
        public, server = next(
            ((public, server) for public, server in self._places if f"{url}/".startswith((f"{public}/", f"{public}?"))),
            ("", ""),
        )
        if not public:
            raise Failure(f"The login leads to {url.partition('?')[0]}, which is neither MLflow's URL nor Keycloak's")
        parts = urllib.parse.urlsplit(public)
        headers = {"Host": parts.netloc, "X-Forwarded-Host": parts.netloc, "X-Forwarded-Proto": parts.scheme}
        try:
            return self._session.request(
                "GET" if form is None else "POST",
                server + parts.path + url.removeprefix(public),
                data=form,
                headers=headers,
                allow_redirects=False,
                timeout=TIMEOUT,
                **options,
            )
        except requests.RequestException as error:
            raise Failure(f"{public} stopped answering in the drill: {type(error).__name__}") from None

    def go(self, url: str, form: Mapping[str, str] | None = None) -> tuple[str, requests.Response]:
        """Call a URL, and follow redirects; return where that led to, and the answer."""
        answer = self.ask(url, form)
        for _unused in range(MOST_REDIRECTS):
            if not answer.is_redirect:
                return url, answer
            url = urllib.parse.urljoin(url, answer.headers["Location"])
            answer = self.ask(url)
        raise Failure(f"The login went round in circles, last at {url.partition('?')[0]}")


def log_in(browser: Browser, mlflow: str, user: str, password: str) -> None:
    """Log a user in by the code flow, as a browser does.

    Args:
        browser: whose session it becomes.
        mlflow: MLflow's public URL.
        user: the name at Keycloak.
        password: the password.

    Raises:
        Failure: one of the pages was another one than a login has.
    """
    place, answer = browser.go(f"{mlflow}/login")
    page = Form(answer.text)
    if not page.action:
        whose = "MLflow" if f"{place}/".startswith((f"{mlflow}/", f"{mlflow}?")) else "Keycloak"
        raise Failure(f"{whose} shows no login page (HTTP {answer.status_code}): {page.said}")
    for _unused in range(MOST_PAGES):
        place, answer = browser.go(page.action, {**page.fields, "username": user, "password": password})
        page = Form(answer.text)
        if not page.action:
            break
    else:
        raise Failure(f"Keycloak asks for more than name and password: {page.said}")
    if not f"{place}/".startswith((f"{mlflow}/", f"{mlflow}?")):
        raise Failure(f"Keycloak did not log the user in (HTTP {answer.status_code}): {page.said}")
    if refusal := urllib.parse.parse_qs(urllib.parse.urlsplit(place).query).get("error"):
        raise Failure(
            f"MLflow did not take the login at Keycloak ({'; '.join(refusal)}): the log of the container mlflow says "
            "why, which mostly is that the backup's client secret is not Keycloak's"
        )


class Keycloak:
    """The admin API of the restored Keycloak.

    Args:
        server: its URL in the pod, with its path.
        realm: MLflow's realm.
    """

    def __init__(self, server: str, realm: str):
        self._server, self._realm = server, urllib.parse.quote(realm, safe="")
        self._session = _session()

    def log_in(self, account: Mapping[str, bytes]) -> None:
        """Log the administrator of the backup in.

        Raises:
            Failure: Keycloak takes none of the backup's passwords.
        """
        path = "/realms/master/protocol/openid-connect/token"
        form = {"grant_type": "password", "client_id": "admin-cli", "username": account["username"].decode()}
        for password in every(account, "password"):
            answer = self._call("POST", path, data=form | {"password": password})
            if answer.ok:
                self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
                return
        raise Failure(f"Keycloak does not take the administrator's password of the backup (HTTP {answer.status_code})")

    def prepare(self) -> None:
        """Let the realm be used without TLS, which the pod does not have."""
        self._admin("PUT", "", "change the realm", {"sslRequired": "none"})

    def make_user(self, name: str, password: str, group: str) -> str:
        """Make a user who has nothing left to do at the first login; return the ID."""
        user = {
            "username": name,
            "email": f"{name}@drill.invalid",
            "emailVerified": True,
            "firstName": "Restore",
            "lastName": "Drill",
            "enabled": True,
        }
        credentials = [{"type": "password", "value": password, "temporary": False}]
        made = {**user, "groups": [f"/{group}"], "credentials": credentials}
        answer = self._admin("POST", "/users", f"make a user in the group {group}", made)
        identifier = answer.headers["Location"].rpartition("/")[2]
        # Those that the realm gives every new user.
        self._admin("PUT", f"/users/{identifier}", "change a user", {**user, "requiredActions": []})
        return identifier

    def _admin(self, method: str, path: str, what: str, body: Any) -> requests.Response:
        answer = self._call(method, f"/admin/realms/{self._realm}{path}", json=body)
        if not answer.ok:
            said = " ".join(answer.text.split())[:MANY_CHARACTERS]
            raise Failure(f"The restored Keycloak refused to {what} (HTTP {answer.status_code}): {said}")
        return answer

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            return self._session.request(method, self._server + path, timeout=TIMEOUT, **options)
        except requests.RequestException as error:
            raise Failure(f"Keycloak stopped answering in the drill: {type(error).__name__}") from None


def every(secret: Mapping[str, bytes], key: str) -> list[str]:
    """Return the values of a key that rotates: the current one, and those before and after it."""
    return [secret[name].decode() for name in (key, f"{key}-previous", f"{key}-next") if name in secret]


def wait_for(url: str, container: str, patience: float = PATIENCE) -> None:
    """Return when a server of this pod is ready.

    Raises:
        Failure: it is not in time.
    """
    deadline, last, session = time.monotonic() + patience, "no answer", _session()
    while time.monotonic() < deadline:
        try:
            answer = session.get(url, timeout=TIMEOUT)
        except requests.RequestException:
            last = "no answer"
        else:
            if answer.ok:
                return
            last = f"HTTP {answer.status_code}"
        time.sleep(1)
    raise Failure(f"The container {container} was not ready within {patience:.0f} s ({last}): its log says why")


def walk(
    asked: Mapping[str, Any],
    found: Values,
    run: str,
    artifact: str,
    is_whole: Callable[[Iterable[bytes]], bool],
) -> dict[str, Any]:
    """Log in, and read a run and an artifact.

    Args:
        asked: how users log in, and what the servers are called.
        found: the values of the backup's Secrets.
        run: ID of a run; empty where there is none.
        artifact: path of an artifact of this run; empty where there is none.
        is_whole: tells whether a content is that of the artifact.

    Returns:
        What was done, for the drill's record.

    Raises:
        Failure: something is not as it was backed up.
    """
    mlflow, keycloak = asked["mlflow"], asked["keycloak"]
    places = {mlflow: MLFLOW, keycloak: KEYCLOAK} if asked["way"] == "code" else {mlflow: MLFLOW}
    done: dict[str, Any] = {"way": asked["way"], "run": run, "artifact": artifact}
    wait_for(f"{MLFLOW}/health/ready", "mlflow")
    if asked["way"] == "code":
        server = KEYCLOAK + urllib.parse.urlsplit(keycloak).path
        wait_for(f"{server}/realms/master", "keycloak")
        begun = time.monotonic()
        admin = Keycloak(server, asked["realm"])
        admin.log_in(secret_of(found, asked["keycloak_account"]))
        admin.prepare()
        (done["user"], browser), (_name, ordinary) = (_enter(admin, places, mlflow, group) for group in asked["groups"])
        _expect(ordinary.ask(mlflow + GRANTS, params={"subject": "user"}), 403, "a user without rights lists grants")
    else:
        begun = time.monotonic()
        account = secret_of(found, asked["mlflow_account"]) if asked["way"] == "password" else {}
        login = (account["username"].decode(), account["password"].decode()) if account else None
        done["user"] = login[0] if login else ""
        browser = Browser(places, login)
    if asked["way"] != "none":
        answer = _expect(browser.ask(mlflow + CURRENT), 200, f"{done['user']} asks who it is").json()
        # Basic-auth has it below "user".
        if not answer.get("user", answer)["is_admin"]:
            raise Failure(f"{done['user']} is no administrator in the restored MLflow")
        _expect(Browser(places).ask(mlflow + CURRENT), 401, "nobody asks who it is")
    if run:
        url = f"{mlflow}/api/2.0/mlflow/runs/get"
        _expect(browser.ask(url, params={"run_id": run}), 200, f"{done['user'] or 'nobody'} reads the run {run}")
    if artifact:
        answer = browser.ask(f"{mlflow}/get-artifact", params={"run_id": run, "path": artifact}, stream=True)
        _expect(answer, 200, f"{done['user'] or 'nobody'} reads an artifact of the run {run}")
        if not is_whole(answer.iter_content(CHUNK)):
            raise Failure(f"MLflow gives another content of {artifact} of the run {run} than was backed up")
    return {**done, "seconds": round(time.monotonic() - begun, 1)}


def _enter(admin: Keycloak, places: Mapping[str, str], mlflow: str, group: str) -> tuple[str, Browser]:
    """Make a user of this group, and log in; return the name, and the browser."""
    name, password = f"drill-{secrets.token_hex(6)}", secrets.token_urlsafe(32) + EACH_KIND
    admin.make_user(name, password, group)
    browser = Browser(places)
    log_in(browser, mlflow, name, password)
    _expect(browser.ask(mlflow + CURRENT), 200, f"a user of the group {group} who has logged in asks who it is")
    return name, browser


def _expect(answer: requests.Response, status: int, what: str) -> requests.Response:
    if answer.status_code != status:
        raise Failure(f"The restored MLflow answers HTTP {answer.status_code} instead of {status} where {what}")
    return answer


def secret_of(found: Values, place: str) -> Mapping[str, bytes]:
    """Return the values of a Secret of the backup.

    Raises:
        Failure: it has none.
    """
    if place not in found:
        raise Failure(f"The backup has no Secret {place}")
    return found[place]
