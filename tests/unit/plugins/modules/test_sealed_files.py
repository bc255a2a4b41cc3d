# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module sealed_files without a controller.

With one it is tested by molecule/default/tests/test_sealing.py.
"""

from __future__ import annotations

import json
import os
import pathlib

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.sealing.crypto import SealingError, load
from ansible_collections.mlops.mlflow.plugins.modules import sealed_files

KNOWN = pathlib.Path(__file__).parents[1] / "module_utils" / "sealing" / "fixtures"
PROXY = "/api/v1/namespaces/sealed-secrets/services/http:sealed-secrets-controller:http/proxy"


@pytest.fixture(autouse=True)
def _controller(cluster):
    """Give the fake cluster a controller with a certificate."""
    cluster.answers[f"GET {PROXY}/v1/cert.pem"] = (200, (KNOWN / "certificate.pem").read_bytes())


def test_sealed_values_are_replaced_and_all_else_stays():
    text = "# mine\nkind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nmetadata: {name: a, namespace: b}\n"
    text += "spec:\n  encryptedData:\n    x: OLDX\n    y: 'OLDY' # why\n---\nkind: Other\n"
    old = sealed_files.sealed_of(text, "it")
    new = [{**old[0], "spec": {"encryptedData": {"x": "NEWX", "y": "NEWY"}}}]
    assert sealed_files.replaced(text, old, new, "it") == (text.replace("OLD", "NEW"), False)
    folded = text.replace("---\nkind: Other\n", "").replace("OLDX", ">-\n      OL\n      DX")
    old = sealed_files.sealed_of(folded, "it")
    changed, rewritten = sealed_files.replaced(folded, old, new, "it")
    assert rewritten is True
    assert load(changed, "it")["spec"]["encryptedData"] == {"x": "NEWX", "y": "NEWY"}
    with pytest.raises(SealingError, match="holds several objects"):
        sealed_files.replaced(folded + "---\nkind: Other\n", old, new, "it")


def test_a_directory_that_is_not_there(cluster, run, tmp_path):
    result = run("sealed_files", directory=str(tmp_path / "nowhere"))
    assert result["msg"] == f"directory is '{tmp_path / 'nowhere'}': there is no such directory"
    assert cluster.requests == []


def test_files_that_hold_no_sealed_secret_are_passed_over(cluster, run, tmp_path):
    for name, text in {
        "a.yaml": "{{ chart }}",
        "b.json": "{}",
        "c.txt": "kind: SealedSecret",
        ".d.yaml": "{SealedSecret",
    }.items():
        (tmp_path / name).write_text(text)
    result = run("sealed_files", directory=str(tmp_path))
    assert (result["changed"], result["resealed"], result["unchanged"]) == (False, [], [])
    assert not any(each.startswith("POST") for each in cluster.requests)


def test_a_file_that_cannot_be_opened_is_named_after_the_others_are_done(cluster, run, tmp_path):
    good = json.loads((KNOWN / "cluster-wide.kubeseal").read_text())
    resealed = {"spec": {"encryptedData": {key: "AAAA" for key in good["spec"]["encryptedData"]}}}

    def rotate(count=iter(range(9))):  # noqa: B008  counts the calls
        return (500, b"") if next(count) == 0 else (200, resealed)

    cluster.answers[f"POST {PROXY}/v1/rotate"] = rotate
    (tmp_path / "a.json").write_text(json.dumps(good))
    (tmp_path / "b.json").write_text(json.dumps(good))
    (tmp_path / "c.yaml").write_text("{SealedSecret")
    result = run("sealed_files", directory=str(tmp_path), apply=False)
    assert result["failed"] is True
    assert "2 files are not sealed again: the file " in result["msg"]
    assert "a.json cannot be opened by the Sealed Secrets controller sealed-secrets/" in result["failed_files"][0]
    assert "c.yaml is no YAML" in result["failed_files"][1]
    assert result["resealed"] == ["b.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == good
    assert load((tmp_path / "b.json").read_text(), "it")["spec"] == {**good["spec"], **resealed["spec"]}
    os.unlink(tmp_path / "a.json")
    os.unlink(tmp_path / "c.yaml")
    assert run("sealed_files", directory=str(tmp_path), apply=False)["changed"] is False
