"""The archive that is published holds all that its playbooks, roles and modules need, and their documentation."""

import pathlib
import re

import pytest

from tests.lib import installed


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return installed.Installed(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def inventory(collection):
    """The inventory that the README gives for a cluster."""
    (text,) = re.findall(r"```yaml\n(# inventory\.yml\n.*?)```", (installed.REPOSITORY / "README.md").read_text(), re.S)
    path = collection.elsewhere / "inventory.yml"
    path.write_text(text)
    return path


def words(text):
    """Text without what ansible-doc makes of markup and of the width of lines."""
    return re.sub(r"[^A-Za-z0-9]+", "", text)


def test_the_readme_names_the_archive(collection):
    assert f"install {collection.archive.name} " in (installed.REPOSITORY / "README.md").read_text()


def test_it_is_the_installed_one_that_is_found(collection):
    shown = collection.run("ansible-galaxy", "collection", "list", installed.NAME).stdout
    assert [line for line in shown.splitlines() if line.startswith("# ")] == [
        f"# {collection.collections / 'ansible_collections'}"
    ]


@pytest.mark.parametrize("folder", ["extensions", "meta", "playbooks", "plugins", "roles"])
def test_no_file_is_left_out(collection, folder):
    def files(place):
        found = {path.relative_to(place) for path in (place / folder).rglob("*") if path.is_file()}
        return {path for path in found if not any(part.startswith((".", "__pycache__")) for part in path.parts)}

    assert files(collection.place) == files(installed.REPOSITORY)


def test_modules_are_documented(collection):
    names = collection.names("plugins/modules/*.py")
    known = collection.documentation("module", names)
    assert sorted(known) == names
    shown = words(collection.run("ansible-doc", "-t", "module", *names).stdout)
    for name, found in known.items():
        assert pathlib.Path(found["doc"]["filename"]).is_relative_to(collection.place), name
        assert found["doc"]["short_description"], name
        first = found["doc"]["description"][0]
        # Markup, such as O(), is shown in other ways.
        assert words(first.partition("(")[0][:-1]) in shown, name
        assert found["examples"].strip(), name
        assert found["return"], name


def test_roles_are_documented(collection):
    names = collection.names("roles/*")
    known = collection.documentation("role", names)
    assert sorted(known) == names
    shown = words(collection.run("ansible-doc", "-t", "role", *names).stdout)
    for name, found in known.items():
        assert pathlib.Path(found["path"]).is_relative_to(collection.place), name
        about = found["entry_points"]["main"]
        assert about["short_description"], name
        assert words(about["description"][0].partition("(")[0][:-1]) in shown, name


def test_filters_are_documented(collection):
    names = collection.names("plugins/filter/*.yml")
    assert sorted(collection.documentation("filter", names)) == names


def test_every_playbook_is_found_by_its_name(collection, inventory):
    names = collection.names("playbooks/*.yml")
    done = collection.run("ansible-playbook", "-i", inventory, "--syntax-check", *names)
    assert done.stderr == ""
    assert re.findall(r"^playbook: (\S+)$", done.stdout, re.M) == [
        str(collection.place / "playbooks" / f"{name.rpartition('.')[2]}.yml") for name in names
    ]


def test_the_inventory_of_the_readme_names_variables_that_there_are(collection, inventory):
    known = collection.documentation("role", collection.names("roles/*"))
    options = {name for role in known.values() for name in role["entry_points"]["main"].get("options", {})}
    given = set(re.findall(r"^ {6}(\w+):", inventory.read_text(), re.M))
    assert {name for name in given if not name.startswith("ansible_")} <= options
