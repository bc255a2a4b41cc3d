"""A session survives 15 idle minutes, although access tokens expire after five."""

import time

from tests.lib import pages
from tests.lib import stack as stacks
from tests.lib.keycloak_admin import Keycloak

IDLE = 15 * 60
TOKEN = 5 * 60


def test_session_survives_15_idle_minutes(deployed, say, page):
    stack = deployed.stack
    client = stack.variables.get("mlflow_oidc_client_id", "mlflow")
    with Keycloak(stack, "drill").access_tokens_last(client, TOKEN):
        pages.enter(stack, page, stacks.USER)
        page.goto("about:blank")
        say(f"idle for {IDLE // 60} minutes ...")
        time.sleep(IDLE)
        assert pages.who(stack, page) == stacks.USER
        page.goto(f"{stack.mlflow_url}/#/experiments")
        pages.expect(page.get_by_text("Experiments").first).to_be_visible()
        assert page.url.startswith(stack.mlflow_url)
