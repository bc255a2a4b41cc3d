# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests as YAML that Kubernetes' own readers take as PyYAML does: the two differ on which plain words are strings.

PyYAML is imported with the first call: only what touches files needs it.
"""

from __future__ import annotations

import functools
import re
from typing import Any

_LINE_ENDS = re.compile(r"[\r\x85\u2028\u2029]")  # YAML turns them into its own
_PLAIN = re.compile(r"[A-Za-z/]")  # how a string begins that needs no quotes
_WORDS = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null")  # of YAML 1.1


@functools.cache
def _dumper() -> type:
    import yaml  # noqa: PLC0415  see above

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

        def string(self, text: str) -> yaml.Node:
            style = None
            if _LINE_ENDS.search(text):
                style = '"'
            elif "\n" in text:
                style = "|"
            elif not _PLAIN.match(text) or _WORDS.fullmatch(text):
                style = '"'
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, Dumper.string)
    return Dumper


@functools.cache
def _loader() -> type:
    import yaml  # noqa: PLC0415  see above

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012  the name that PyYAML asks for
            first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader


def dump(thing: dict[str, Any], sort_keys: bool = False) -> str:
    """Give an object as YAML; the same object gives the same text.

    Args:
        thing: The object.
        sort_keys: Whether keys are sorted; otherwise they stay in their order.
    """
    import yaml  # noqa: PLC0415  see above

    return yaml.dump(
        thing, Dumper=_dumper(), sort_keys=sort_keys, default_flow_style=False, allow_unicode=True, width=10**6
    )


def parse(text: str | bytes) -> list[Any]:
    """Read all documents of a YAML or JSON text; what looks like a date is a string, as for Kubernetes.

    Raises:
        Exception: Of many kinds, it is no YAML.
    """
    import yaml  # noqa: PLC0415  see above

    return list(yaml.load_all(text, _loader()))
