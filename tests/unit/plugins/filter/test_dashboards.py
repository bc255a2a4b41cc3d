# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dashboards of Grafana, as the one of a stack."""

import copy

from ansible_collections.mlops.mlflow.plugins.filter.dashboards import dashboard_of_stack

BOARD = {
    "uid": "mlflow-server",
    "title": "MLflow: server",
    "panels": [{"title": "Calls"}],
    "templating": {
        "list": [
            {"name": "datasource", "type": "datasource"},
            {"name": "namespace", "type": "query", "query": "label_values(up, namespace)"},
            {"name": "runbooks", "type": "constant", "query": "https://example.com"},
        ]
    },
}
VALUES = {"namespace": "ml", "runbooks": "https://wiki.example.com", "of_another": "x"}


def test_variables_have_the_values_of_the_stack():
    before = copy.deepcopy(BOARD)
    source, namespace, runbooks = dashboard_of_stack(BOARD, "mlflow", VALUES)["templating"]["list"]
    assert source == BOARD["templating"]["list"][0]
    assert namespace == BOARD["templating"]["list"][1] | {"current": {"text": "ml", "value": "ml"}}
    # Grafana takes the value of a constant from its query.
    assert runbooks["query"] == runbooks["current"]["value"] == "https://wiki.example.com"
    assert before == BOARD


def test_each_stack_has_its_own():
    usual, team, other = (dashboard_of_stack(BOARD, name, {}) for name in ("mlflow", "team-a", "t" * 63))
    assert (usual["uid"], usual["title"]) == ("mlflow-server", "MLflow: server")
    assert team["title"] == "MLflow: server (team-a)"
    assert len({each["uid"] for each in (usual, team, other)}) == 3
    assert all(len(each["uid"]) <= 40 for each in (team, other))
    assert team["panels"] == BOARD["panels"]
