"""Generated pages are up to date, and links, paths and commands in pages exist."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images.md"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "tests" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "roles").glob("*/README.md"),
    ]
)


def test_variables_are_those_of_the_argument_specs():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_exist(page):
    missing = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.+)$", (page.parent / target if target else page).read_text(), re.M)
        slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        if anchor not in slugs:
            missing.append(f"{target}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_paths_exist(page):
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    playbooks = re.findall(r"ansible-playbook [^\n`|]*?\bmlops\.mlflow\.(\w+)", text)
    documented = re.findall(r"ansible-doc (?:-t \w+ )?mlops\.mlflow\.(\w+)", text)
    paths = re.findall(r"`((?:playbooks|docs|roles|tests|inventory|molecule|plugins|changelogs)/[\w./-]+)`", text)
    missing = [f"make {name}" for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", text) if name not in targets]
    missing += [name for name in playbooks if not (ROOT / "playbooks" / f"{name}.yml").exists()]
    missing += [
        name
        for name in documented
        if not any((ROOT / place).exists() for place in (f"plugins/modules/{name}.py", f"roles/{name}"))
    ]
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("image", "templates"),
    [
        ("postgres_image", "postgres/templates/postgres*"),
        ("minio_image", "minio/templates/minio*"),
        ("keycloak_image", "keycloak/templates/keycloak*"),
        ("sealed_secrets_image", "sealed_secrets/templates/sealed-secrets*"),
        ("mlflow_image", "mlflow/templates/mlflow[.-][dm]*"),
        ("mlflow_oauth2_proxy_image", "mlflow/templates/mlflow-oauth2-proxy*"),
    ],
)
def test_users_of_the_images_are_those_of_the_pods(image, templates):
    (user,) = re.findall(rf"^\| `{image}` \| (\d+)(?::(\d+)|, and the image's own group) \|", IMAGES.read_text(), re.M)
    text = "".join(path.read_text() for path in (ROOT / "roles").glob(templates))
    pods = re.findall(r"'runAsUser': (\d+)(?:, 'runAsGroup': (\d+))?", text)
    assert set(pods) == {user}


@pytest.mark.parametrize("page", ["backup", "upgrade", "rotation"])
def test_playbooks_of_a_page_are_run_by_tests(page):
    """With the variables of their commands; what a test gives as a word counts."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    commands = re.findall(r"\$ ansible-playbook [^\n|]*?\bmlops\.mlflow\.(\w+)([^\n#|]*)", text)
    tests = "".join(
        path.read_text()
        for folder in ("molecule", "tests/drills", "tests/lib")
        for path in (ROOT / folder).rglob("*.py")
    )
    wanted = {f"playbooks/{name}.yml" for name, _words in commands}
    wanted |= {variable for _name, words in commands for variable in re.findall(r"-e (\w+)=", words)}
    assert wanted
    assert sorted(each for each in wanted if each not in tests) == []
