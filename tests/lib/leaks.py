"""How a secret is looked for where others may read: in texts, and in the arguments of processes."""

import base64
import pathlib

from tests.lib import stack as stacks


def forms(value: str) -> set[str]:
    """Return the forms of a secret to search for: as it is, as base64, and each inner line of a multi-line one.

    Line breaks have several notations (two characters in JSON), so keys are searched for by line.
    """
    lines = [line for line in value.splitlines() if len(line) >= 16 and "-----" not in line]
    plain = lines if len(value.splitlines()) > 1 else [value]
    encoded = base64.b64encode(value.encode()).decode()
    return {*plain, encoded, encoded.rstrip("=")}


def leaks(secrets: dict[str, str], text: str) -> list[str]:
    """Return the names of the secrets that a text contains in any form."""
    return sorted(name for name, value in secrets.items() if any(form in text for form in forms(value)))


# Made up, since a failing control may print them. One has the form of a private key.
PLANTED = {
    "one line": "planted-" + "0123456789abcdef" * 2,
    "several lines": "-----BEGIN PLANTED KEY-----\n"
    + "\n".join(c * 64 for c in "QRST")
    + "\n-----END PLANTED KEY-----\n",
}


class Watcher(stacks.Background):
    """Collects the arguments of all processes on this machine, including those in pods of a kind cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()

    def run(self) -> None:
        while not self.done.wait(0.02):
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue

    @property
    def text(self) -> str:
        return b"\n".join(self.seen).replace(b"\0", b" ").decode(errors="replace")
