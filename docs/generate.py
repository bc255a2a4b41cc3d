"""Write docs/variables.md from the roles' argument specs, and the table of docs/network.md from their manifests.

Also writes the dashboards of docs/dashboards.py. With --check, only tell whether all are up to date.

The argument specs are the one reference of variables. aar-doc writes a table a role too, but it asks for
operating-system platforms, which these roles have none of, and repeats the table for every entry point.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "variables.md"
NETWORK = ROOT / "docs" / "network.md"
DASHBOARDS = ROOT / "roles" / "mlflow" / "files" / "dashboards"
# The inventory of the table of flows, which has most of them; docs/network.md shows it.
EXAMPLE = re.compile(r"(?<=<!-- inventory of the table -->\n```yaml\n).*?(?=```\n)", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- made by docs/generate.py -->\n).*?(?=<!-- end -->\n)", re.DOTALL)
ROLES = (
    "platform",
    "sealed_secrets",
    "postgres",
    "minio",
    "keycloak",
    "mlflow",
    "traefik",
    "cert_manager",
    "backup",
    "kind_cluster",
    "images",
)
# What to set first, in the order in which the questions come up.
START = (
    ("Which cluster?", ("kubeconfig_path",)),
    ("From which images? These two have no default.", ("mlflow_image", "minio_image")),
    ("At which addresses, and who serves them?", ("mlflow_url", "keycloak_url", "mlflow_service_type")),
    ("What do you run elsewhere already?", ("platform_components",)),
    ("Where are credentials kept?", ("platform_secrets_backend",)),
    ("How much room is there for data?", ("postgres_storage_size", "minio_storage_size")),
    ("How do users log in, and who are they?", ("mlflow_auth", "keycloak_users")),
    ("Who may do what?", ("mlflow_access", "mlflow_clients")),
)
MARKUP = re.compile(r"\b([A-Z])\((?:[\w.]+#role:main:)?([^)]*)\)")


def plain(text: str | list[str]) -> str:
    """Turn Ansible's markup (C(), O(), V(), E(), M()) into Markdown's code spans, on one line.

    Args:
        text: a description, or a list of its sentences.
    """
    joined = " ".join(text) if isinstance(text, list) else text
    return MARKUP.sub(r"`\2`", " ".join(joined.split())).replace("|", "\\|")


def shown(default: Any) -> str:
    """Give a default as YAML on one line, in a code span; nothing where there is none."""
    if default is None:
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, width=10**6).replace("\n...", "").strip()
    return "`" + text.replace("|", "\\|") + "`"


def rows(entries: dict[str, Any], prefix: str = "") -> list[str]:
    """Give a table row for each option, those of dictionaries behind their parent's name."""
    lines = []
    for name, option in entries.items():
        kind = option.get("type", "str")
        if kind == "list":
            kind = f"list of {option.get('elements', 'str')}"
        about = plain(option.get("description", ""))
        if "choices" in option:
            about += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        default = "required" if option.get("required") else shown(option.get("default"))
        lines.append(f"| `{prefix}{name}` | {kind} | {default} | {about} |")
        mark = "[]." if option.get("type") == "list" else "."
        lines += rows(option.get("options", {}), f"{prefix}{name}{mark}")
    return lines


def options(role: str) -> dict[str, Any]:
    """Read the entry point `main` of a role's argument specs."""
    text = (ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text()
    return dict(yaml.safe_load(text)["argument_specs"]["main"])


def start() -> list[str]:
    """Give the table rows of the variables to set first, with the first sentence on each."""
    known = {name: option for role in ROLES for name, option in options(role)["options"].items()}
    lines = []
    for question, names in START:
        for number, name in enumerate(names):
            about = known[name]["description"]
            first = plain(about if isinstance(about, str) else about[0])
            asked = "" if number else question
            lines.append(f"| {asked} | `{name}` | {shown(known[name].get('default'))} | {first} |")
    return lines


def page() -> str:
    """Give the whole page."""
    parts = [
        "# Variables",
        "Made by `python docs/generate.py` from each role's `meta/argument_specs.yml`; don't edit it here. "
        "`ansible-doc -t role mlops.mlflow.<role>` prints the same in a terminal.",
    ]
    parts += [
        "## Start here",
        "These matter for a first deployment, in this order. All others have a default that works. A value that is not "
        "allowed ends the run before anything is changed, with the variable, its value and what it may be.",
        "\n".join(["| Question | Variable | Default | What it is |", "|---|---|---|---|", *start()]),
    ]
    for role in ROLES:
        spec = options(role)
        parts.append(f"## {role}\n\n{plain(spec.get('description', spec['short_description']))}")
        if spec.get("options"):
            parts.append(
                "| Variable | Type | Default | What it is |\n|---|---|---|---|\n" + "\n".join(rows(spec["options"]))
            )
    return "\n\n".join(parts) + "\n"


def flows(inventory: dict[str, Any]) -> str:
    """Give the table of the flows that the NetworkPolicies of a stack let through.

    Args:
        inventory: variables of the stack.
    """
    # Ansible takes a second to import, and finds the collection only when its loader is ready before.
    from ansible.plugins.loader import init_plugin_loader  # noqa: PLC0415  see above

    init_plugin_loader([])
    from tests.lib import options, rendering  # noqa: PLC0415  see above

    lines = ["| Namespace | Policy | Flow | What for |", "|---|---|---|---|"]
    for name in rendering.COMPONENTS:
        for each in rendering.Role(name).policies(options.BASE.get(name, {}) | inventory):
            metadata = each["metadata"]
            notes = metadata["annotations"]
            flow = f"`{notes['mlops.mlflow/flow']}`"
            lines.append(f"| `{metadata['namespace']}` | `{metadata['name']}` | {flow} | {notes['mlops.mlflow/why']} |")
    return "\n".join(lines) + "\n"


def network() -> str:
    """Give the page on the network with its table as the manifests have it."""
    text = NETWORK.read_text()
    example = EXAMPLE.search(text)
    if not example or not TABLE.search(text):
        raise ValueError(f"{NETWORK} lacks its inventory, or the place of its table")
    table = flows(yaml.safe_load(example.group()))
    return TABLE.sub(lambda _match: table, text)


def dashboards() -> dict[Path, str]:
    """Give the dashboards by their files."""
    from docs.dashboards import files  # noqa: PLC0415  needs the path that is set above

    return {DASHBOARDS / name: text for name, text in files().items()}


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args().check
    outdated = []
    wanted = {PAGE: page(), NETWORK: network(), **dashboards()}
    for path in {*wanted, *DASHBOARDS.glob("*")}:
        if path.exists() and path.read_text() == wanted.get(path):
            continue
        outdated.append(str(path.relative_to(ROOT)))
        if check:
            continue
        path.parent.mkdir(exist_ok=True, parents=True)
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    if check and outdated:
        print(f"{' and '.join(sorted(outdated))} out of date: run python docs/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
