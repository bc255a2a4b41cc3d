"""How a failed upgrade is undone: never at the price of what was acknowledged."""

import pytest
from ansible_collections.mlops.mlflow.plugins.filter.upgrade import postgres_major, upgrade_back

FORMER = {"mlflow": "mlflow:1", "keycloak": "keycloak:1", "postgres": "postgres:1"}
WANTED = {"mlflow": "mlflow:2", "keycloak": "keycloak:2", "postgres": "postgres:2"}
KNOWN = {"settled": "", "served": False, "changes": 150, "major": 15, "former": 0, "size": 1, "free": 9}
MIGRATED = KNOWN | {"settled": "2026-11-30 09:41:00+00"}


def back(now, *, before=None, own_database=True, backup=True, images=None):
    known = {"images": images or FORMER, "databases": KNOWN if before is None else before}
    return upgrade_back(known, now, WANTED, own_database, backup)


def test_without_a_migration_only_images_go_back():
    assert back(KNOWN) == {"images": FORMER, "time": "", "former": False, "why_not": ""}
    # Of an earlier upgrade, since which MLflow has served.
    assert back(MIGRATED | {"served": True}, before=MIGRATED)["time"] == ""
    assert back(MIGRATED | {"served": True}, before=MIGRATED)["why_not"] == ""


def test_after_a_migration_databases_go_back_to_when_calls_were_held():
    assert back(MIGRATED) == {"images": FORMER, "time": MIGRATED["settled"], "former": False, "why_not": ""}


LOADED = KNOWN | {"major": 17, "former": 15}


@pytest.mark.parametrize("now", [LOADED, LOADED | MIGRATED | {"major": 17, "former": 15}, LOADED | {"changes": 151}])
@pytest.mark.parametrize("backup", [True, False])
def test_the_former_databases_are_the_way_back_as_long_as_nobody_was_served(now, backup):
    assert back(now, backup=backup) == {"images": FORMER, "time": "", "former": True, "why_not": ""}


def test_databases_that_have_served_stay_in_the_new_major_version():
    served = LOADED | {"former": 0}
    stays = {"images": FORMER | {"postgres": "postgres:2"}, "time": "", "former": False, "why_not": ""}
    assert back(served) == stays
    assert "of which there is no backup" in back(served | {"settled": MIGRATED["settled"]})["why_not"]
    # By a server of the new version.
    assert "would lose what was written" in back(LOADED | {"settled": MIGRATED["settled"], "served": True})["why_not"]
    assert "not the stack's own" in back(LOADED, own_database=False)["why_not"]


@pytest.mark.parametrize(
    ("image", "major"),
    [
        ("docker.io/library/postgres:17.7", 17),
        ("postgres:17", 17),
        ("localhost:5000/mlops/postgres:15-1a2b3c4d", 15),
        ("postgres:17-bookworm@sha256:99aa", 17),
        ("localhost:5000/postgres", 0),
        ("localhost:5000/postgres@sha256:99aa", 0),
        ("postgres@sha256:99aa", 0),
        ("postgres:latest", 0),
        ("", 0),
    ],
)
def test_the_major_version_is_in_the_tag(image, major):
    assert postgres_major(image) == major


@pytest.mark.parametrize(
    ("now", "options", "why"),
    [
        (MIGRATED | {"served": True}, {}, "would lose what was written"),
        (MIGRATED, {"backup": False}, "migrated after 2026-11-30 09:41:00+00, and no backup reaches up to there"),
        ({}, {}, "PostgreSQL does not answer"),
        ({}, {"own_database": False, "before": {}}, "the database is not the stack's own"),
    ],
)
def test_nothing_is_undone_that_may_lose_something(now, options, why):
    assert why in back(now, **options)["why_not"]


def test_without_a_backup_images_go_back_if_nothing_was_migrated():
    assert back(KNOWN, backup=False) == {"images": FORMER, "time": "", "former": False, "why_not": ""}


@pytest.mark.parametrize("changes", [151, None])
def test_keycloak_stays_on_tables_that_it_has_changed_or_may_have(changes):
    assert back(KNOWN | {"changes": changes})["images"] == FORMER | {"keycloak": "keycloak:2"}


def test_what_is_new_keeps_its_image():
    assert back(KNOWN, images={"mlflow": "mlflow:1"})["images"] == WANTED | {"mlflow": "mlflow:1"}
