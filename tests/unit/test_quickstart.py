"""The ports of the quickstart are set by two variables in one place."""

import shutil

import pytest
import quickstart


@pytest.fixture
def inventory(tmp_path):
    """The quickstart's inventory with other ports."""
    copied = tmp_path / "inventory" / "kind"
    shutil.copytree(quickstart.INVENTORY, copied)
    path = copied / "group_vars" / "mlflow" / "main.yml"
    text = path.read_text()
    for name, usual, port in (("mlflow_node_port", 30800, 30901), ("keycloak_node_port", 30880, 30902)):
        assert f"\n{name}: {usual}\n" in text
        text = text.replace(f"\n{name}: {usual}\n", f"\n{name}: {port}\n")
    path.write_text(text)
    return copied


def test_urls_follow_the_ports(inventory):
    assert quickstart.addresses(inventory) == ["http://localhost:30901", "http://localhost:30902"]
    assert quickstart.addresses(quickstart.INVENTORY) == ["http://localhost:30800", "http://localhost:30880"]


def test_missing_inventory_is_named(tmp_path):
    with pytest.raises(quickstart.QuickstartError, match=r"cannot read the URLs from the inventory .*/nowhere"):
        quickstart.addresses(tmp_path / "nowhere")
