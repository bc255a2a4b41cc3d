# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is shown of options that supply values."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import NOT_SHOWN, plain_texts, redacted

LONG = "a-value-of-more-than-16-characters"


@pytest.mark.parametrize(
    ("given", "shown", "plain"),
    [
        ({"env": "PASSWORD"}, {"env": "PASSWORD"}, {"PASSWORD"}),
        ({"file": "/a/long/path/of/a/file"}, {"file": "/a/long/path/of/a/file"}, {"/a/long/path/of/a/file"}),
        ({"generate": "hex", "length": 32}, {"generate": "hex", "length": 32}, {"hex", "32"}),
        ({"secret": {"name": "n", "key": "k"}}, {"secret": {"name": "n", "key": "k"}}, {"n", "k"}),
        ({"value": LONG}, {"value": NOT_SHOWN}, set()),
        ({"value": "short"}, {"value": NOT_SHOWN}, {"short"}),
        ({"value": LONG, "env": LONG}, {"value": NOT_SHOWN, "env": NOT_SHOWN}, set()),
        ({"env": {"password": LONG}}, {"env": {"password": NOT_SHOWN}}, set()),
        (LONG, NOT_SHOWN, set()),
        ([LONG, "short"], NOT_SHOWN, {"short"}),
        ({"login": {"password": {"env": "E"}}}, {"login": {"password": {"env": "E"}}}, {"E"}),
    ],
)
def test_only_where_values_come_from_is_shown(given, shown, plain):
    assert redacted(given) == shown
    assert set(plain_texts(given)) == plain


def test_short_values_are_hidden_where_it_is_asked_for():
    assert list(plain_texts({"value": "root"}, short=False)) == []
    assert list(plain_texts({"env": "T"}, short=False)) == ["T"]
