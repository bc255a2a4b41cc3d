"""The pages that are made from something else are up to date, and links lead somewhere."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "roles").glob("*/README.md")])


def test_variables_are_those_of_the_argument_specs():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


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
    (told,) = re.findall(rf"^\| `{image}` \| (\d+)(?::(\d+)|, and the image's own group) \|", IMAGES.read_text(), re.M)
    text = "".join(path.read_text() for path in (ROOT / "roles").glob(templates))
    pods = re.findall(r"'runAsUser': (\d+)(?:, 'runAsGroup': (\d+))?", text)
    assert set(pods) == {told}
