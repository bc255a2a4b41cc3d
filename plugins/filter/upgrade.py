# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade changes, and how a failed one is undone."""

from __future__ import annotations

import re
from typing import Any


def postgres_major(image: str) -> int:
    """Give the major version of PostgreSQL by the tag of an image, which begins with it; 0 without such a tag."""
    found = re.match(r"[^@]*:([0-9]+)[^/@:]*(@.*)?$", image)
    return int(found[1]) if found else 0


def upgrade_back(
    before: dict[str, Any], now: dict[str, Any], wanted: dict[str, str], own_database: bool, backup: bool
) -> dict[str, Any]:
    """Decide whether and how a stack goes back after an upgrade that failed.

    Args:
        before: what was deployed: C(images) by component, and C(databases), as C(postgres/upgrade.sh) prints it.
        now: what that prints now; empty if PostgreSQL does not answer.
        wanted: the images of the upgrade by component.
        own_database: whether MLflow's database is the stack's own.
        backup: whether the stack has backups that reach up to any time.

    Returns:
        C(images) to go back to; C(time) to which the databases are restored, empty if they are as they were;
        C(former), whether they are those that the former major version of PostgreSQL has left; and C(why_not), why
        nothing is undone, empty if it is.
    """
    known = before["databases"]
    migrated = bool(now) and now["settled"] != known["settled"]
    # What C(pgdata.before) holds is all there is, as long as nobody was served since.
    former = own_database and bool(now) and now["former"] > 0 and not (migrated and now["served"])
    taken = bool(now) and now["major"] != known.get("major", now["major"])
    if former:
        why_not = ""
    elif not own_database:
        why_not = (
            "the database is not the stack's own, and the log of the Job mlflow-migrate says whether it was migrated"
        )
    elif not now:
        why_not = "PostgreSQL does not answer, so that nobody can tell whether the databases were migrated"
    elif migrated and now["served"]:
        why_not = "MLflow has served on the migrated databases since, and going back would lose what was written"
    elif migrated and taken:
        why_not = (
            f"the databases were migrated after {now['settled']}, when they were those of PostgreSQL {now['major']} "
            "already, of which there is no backup"
        )
    elif migrated and not backup:
        why_not = (
            f"the databases were migrated after {now['settled']}, and no backup reaches up to there; "
            "calls are held until you have restored one"
        )
    else:
        why_not = ""
    # What was not deployed before has the new image.
    images = {**{name: image for name, image in wanted.items() if image}, **before["images"]}
    # Databases that have served in another major version stay there.
    if taken and not former:
        images["postgres"] = wanted["postgres"]
    # Keycloak's former image would not start on tables that the newer one has changed.
    unknown = not now or now["changes"] is None or now["changes"] != known["changes"]
    if "keycloak" in before["images"] and unknown and not former:
        images["keycloak"] = wanted["keycloak"]
    time = now["settled"] if migrated and not former else ""
    return {"images": images, "time": time, "former": former, "why_not": why_not}


class FilterModule:
    """Ansible's list of what this file has."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by their names."""
        return {"upgrade_back": upgrade_back, "postgres_major": postgres_major}
