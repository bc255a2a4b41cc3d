"""Check a password once in full, and then by a digest.

Basic authentication sends the password with every call, and MLflow stores it by scrypt: 32 MiB and about 60 ms for each
call. Here the outcome of a good check is remembered by a digest of password and stored hash together. The stored
hash is read from the database at every call as before, so a changed password and a removed account count at once,
in all replicas. Few checks run at a time, so that a burst of logins takes neither all memory nor all processors.
"""

import collections
import hmac
import secrets
import threading

from werkzeug.security import check_password_hash

KEPT = 10_000
AT_A_TIME = 2


class Checks:
    """Stands in for werkzeug's `check_password_hash`."""

    def __init__(self, check=check_password_hash, kept: int = KEPT, at_a_time: int = AT_A_TIME):
        self._check = check
        self._kept = kept
        # Of no use outside of this process.
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
        """Tell whether `password` is the one of which `stored` is the hash."""
        if not isinstance(password, str):
            return False
        digest = self._digest(stored, password)
        if self._known(digest):
            return True
        with self._turns:
            # Of several calls at a time with the same password, the first one has checked it.
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
    """Put `Checks` in the place of `module`'s check_password_hash; say whether there was one."""
    if not hasattr(module, "check_password_hash"):
        return False
    module.check_password_hash = Checks(module.check_password_hash)
    return True
