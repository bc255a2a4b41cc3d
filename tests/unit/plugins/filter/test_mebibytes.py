# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities of Kubernetes in MiB."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow.plugins.filter.mebibytes import in_mebibytes


@pytest.mark.parametrize(
    ("quantity", "mib"),
    [
        ("10Gi", 10240),
        ("1500M", 1430),
        ("1536Mi", 1536),
        ("1.5Gi", 1536),
        ("1181116006400m", 1126),
        ("1073741824", 1024),
        (1073741824, 1024),
        ("1e9", 953),
        ("2Ti", 2**21),
        ("1.Gi", 1024),
        ("1E", 953674316406),
        ("1Ei", 2**40),
    ],
)
def test_whole_mebibytes(quantity, mib):
    assert in_mebibytes(quantity) == mib


@pytest.mark.parametrize("wrong", ["4gb", "", "Gi", "1e3Gi", "1K", "-1Gi", "1Gi ", "1,5Gi", "infinity", None])
def test_no_quantity(wrong):
    with pytest.raises(AnsibleFilterError, match=f"'{wrong}' is no quantity of Kubernetes"):
        in_mebibytes(wrong)
