# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a failed upgrade is undone."""

from __future__ import annotations

from typing import Any


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
        C(images) to go back to; C(time) to which the databases are restored, empty if they are as they were; and
        C(why_not), why nothing is undone, empty if it is.
    """
    known = before["databases"]
    migrated = bool(now) and now["settled"] != known["settled"]
    if not own_database:
        why_not = (
            "the database is not the stack's own, and the log of the Job mlflow-migrate says whether it was migrated"
        )
    elif not now:
        why_not = "PostgreSQL does not answer, so that nobody can tell whether the databases were migrated"
    elif migrated and now["served"]:
        why_not = "MLflow has served on the migrated databases since, and going back would lose what was written"
    elif migrated and not backup:
        why_not = (
            f"the databases were migrated after {now['settled']}, and no backup reaches up to there; "
            "calls are held until you have restored one"
        )
    else:
        why_not = ""
    # What was not deployed before has the new image.
    images = {**{name: image for name, image in wanted.items() if image}, **before["images"]}
    # Keycloak's former image would not start on tables that the newer one has changed.
    if "keycloak" in before["images"] and (not now or now["changes"] is None or now["changes"] != known["changes"]):
        images["keycloak"] = wanted["keycloak"]
    return {"images": images, "time": now["settled"] if migrated else "", "why_not": why_not}


class FilterModule:
    """Ansible's list of what this file has."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by their names."""
        return {"upgrade_back": upgrade_back}
