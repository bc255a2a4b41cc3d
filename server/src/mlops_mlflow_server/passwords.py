# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache successful password checks by a keyed hash.

Basic authentication sends the password with every call, and MLflow verifies it with scrypt, which takes 32 MiB and
about 60 ms. Here a successful check is cached under a keyed hash of the password and the stored hash. The stored hash
is still read from the database at every call, so a changed password or a removed account takes effect at once, in all
replicas. The number of concurrent checks is limited, so that a burst of logins exhausts neither memory nor CPU.
"""

import collections
import hmac
import secrets
import threading

from werkzeug.security import check_password_hash

KEPT = 10_000
AT_A_TIME = 2


class Checks:
    """Replacement for werkzeug's `check_password_hash`."""

    def __init__(self, check=check_password_hash, kept: int = KEPT, at_a_time: int = AT_A_TIME):
        self._check = check
        self._kept = kept
        # Random, so cached hashes are useless outside of this process.
        self._key = secrets.token_bytes(32)
        self._good = collections.OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(at_a_time)

    def _digest(self, stored: str, password: str) -> bytes:
        text = f"{len(stored)}:{stored}{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")

    def _known(self, digest: bytes) -> bool:
        with self._lock:
            if digest not in self._good:
                return False
            self._good.move_to_end(digest)
            return True

    def __call__(self, stored: str, password: str) -> bool:
        """Return whether `stored` is the hash of `password`."""
        if not isinstance(password, str):
            return False
        digest = self._digest(stored, password)
        if self._known(digest):
            return True
        with self._turns:
            # A concurrent call with the same password may have checked it.
            if self._known(digest):
                return True
            if not self._check(stored, password):
                return False
        with self._lock:
            self._good[digest] = None
            while len(self._good) > self._kept:
                self._good.popitem(last=False)
        return True


def install(module) -> bool:
    """Replace `module`'s check_password_hash; return whether this version has it."""
    if not hasattr(module, "check_password_hash"):
        return False
    module.check_password_hash = Checks(module.check_password_hash)
    return True
