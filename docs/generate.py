"""Write docs/variables.md from the roles' argument specs; with --check, only tell whether it is up to date.

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
PAGE = ROOT / "docs" / "variables.md"
ROLES = ("platform", "sealed_secrets", "postgres", "minio", "keycloak", "mlflow", "kind_cluster", "images")
MARKUP = re.compile(r"\b([A-Z])\((?:[\w.]+#role:main:)?([^)]*)\)")


def plain(text: str | list[str]) -> str:
    """Turn Ansible's markup (C(), O(), V(), E(), M()) into Markdown's code spans, on one line.

    :param text: a description, or a list of its sentences
    """
    joined = " ".join(text) if isinstance(text, list) else text
    return MARKUP.sub(r"`\2`", " ".join(joined.split())).replace("|", "\\|")


def shown(default: Any) -> str:
    """Give a default as YAML on one line, in a code span; nothing where there is none."""
    if default is None:
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, width=10**6).replace("\n...", "").strip()
    return "`" + text.replace("|", "\\|") + "`"


def rows(options: dict[str, Any], prefix: str = "") -> list[str]:
    """Give a table row for each option, those of dictionaries behind their parent's name."""
    lines = []
    for name, option in options.items():
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


def page() -> str:
    """Give the whole page."""
    parts = [
        "# Variables",
        "Made by `python docs/generate.py` from each role's `meta/argument_specs.yml`; don't edit it here. "
        "`ansible-doc -t role mlops.mlflow.<role>` prints the same in a terminal.",
    ]
    for role in ROLES:
        spec = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"][
            "main"
        ]
        parts.append(f"## {role}\n\n{plain(spec.get('description', spec['short_description']))}")
        if spec.get("options"):
            parts.append(
                "| Variable | Type | Default | What it is |\n|---|---|---|---|\n" + "\n".join(rows(spec["options"]))
            )
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    wanted = page()
    if not parser.parse_args().check:
        PAGE.write_text(wanted)
        return 0
    if PAGE.exists() and PAGE.read_text() == wanted:
        return 0
    print("docs/variables.md is out of date: run python docs/generate.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
