"""The stack's pages in a real browser, as a user opens them."""

import contextlib
import re
import tempfile

from playwright.sync_api import expect, sync_playwright

# The browser needs no other pages than those of the stack.
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
PATIENCE = 60_000


@contextlib.contextmanager
def running(path, flags=()):
    """Start the browser at a path, with more flags."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        started = playwright.chromium.launch(
            executable_path=path, args=[*FLAGS, *flags], headless=True, env={"HOME": profile, "PATH": "/usr/bin:/bin"}
        )
        try:
            yield started
        finally:
            started.close()


@contextlib.contextmanager
def fresh(browser):
    """Open a page without cookies or storage."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    try:
        yield context.new_page()
    finally:
        context.close()


def go_to_login(stack, page):
    """Go from MLflow's front page to Keycloak's login form."""
    page.goto(stack.mlflow_url)
    way_in = page.get_by_role("link", name=re.compile("log ?in|sign ?in", re.I)).or_(
        page.get_by_role("button", name=re.compile("log ?in|sign ?in", re.I))
    )
    form = page.locator("#kc-form-login")
    expect(form.or_(way_in).first).to_be_visible()
    if not form.is_visible():
        way_in.first.click()
    expect(form).to_be_visible()
    assert page.url.startswith(stack.keycloak_url)


def picture(page, path):
    """Take a screenshot, without the assistant that covers a part of the page."""
    assistant = page.get_by_role("button", name="Close")
    if assistant.count():
        assistant.first.click()
    page.wait_for_timeout(1500)  # wait for the fade-in
    page.screenshot(path=path)


def log_in(page, user, password):
    page.locator("#username").fill(user)
    page.locator("#password").fill(password)
    page.locator("#kc-login").click()


def enter(stack, page, user):
    """Log a user in, starting at the front page."""
    go_to_login(stack, page)
    log_in(page, user, stack.password(user))
    page.wait_for_url(lambda url: url.startswith(stack.mlflow_url) and "/callback" not in url)


def who(stack, page):
    """Return the name of the logged-in user, or None."""
    answer = page.request.get(f"{stack.mlflow_url}/api/2.0/mlflow/users/current", max_redirects=0)
    return answer.json()["username"] if answer.status == 200 else None
