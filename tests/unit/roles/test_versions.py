"""Versions that a role and the builder of images both name are the same."""

import re

import pytest
import yaml

from tests.lib import rendering

ROLES = rendering.ROLES


def load(path):
    return yaml.safe_load((ROLES / path).read_text())


BUILT = load("images/vars/main.yml")
VERSIONS = BUILT["__images_versions"]
PUBLISHED = BUILT["__images_sources"]["registry"]["published"]


def filled(text):
    """A text of vars/main.yml with its versions."""
    return re.sub(r"{{ __images_versions\.(\w+) }}", lambda match: str(VERSIONS[match[1]]), text)


@pytest.mark.parametrize("component", PUBLISHED)
def test_a_role_runs_the_image_that_is_published(component):
    # That of PostgreSQL is also the client's in other roles' pods, and so in the role that all depend on.
    defaults = load("platform/defaults/main.yml") | load(f"{component}/defaults/main.yml")
    assert defaults[f"{component}_image"] == filled(PUBLISHED[component])


def test_the_proxy_is_of_the_version_that_is_built():
    image = load("mlflow/defaults/main.yml")["mlflow_oauth2_proxy_image"]
    assert image.rpartition(":v")[2] == VERSIONS["oauth2_proxy"]


def test_cert_manager_is_of_the_version_that_is_built():
    images = load("cert_manager/defaults/main.yml")
    for name in ("cert_manager_image", "cert_manager_solver_image"):
        assert images[name].rpartition(":v")[2] == VERSIONS["cert_manager"]


@pytest.mark.parametrize(
    "path",
    [
        "server/requirements.in",
        "server/requirements.txt",
        "docs/examples/requirements.txt",
        "README.md",
    ],
)
def test_mlflow_is_of_one_version(path):
    found = re.findall(r"\bmlflow(?:\[\w+\])?(?:==|:)(\d+\.\d+\.\d+)", (rendering.REPOSITORY / path).read_text())
    assert set(found) == {VERSIONS["mlflow"]}
