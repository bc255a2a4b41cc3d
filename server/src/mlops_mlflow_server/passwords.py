# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache successful password checks by a keyed hash.

Basic authentication sends the password with every call, and MLflow verifies it with scrypt, which takes 32 MiB and
about 60 ms. Here a successful check is cached under a keyed hash of the password and the stored hash. The stored hash
is still read from the database at every call, so a changed password or a removed account takes effect at once, in all
replicas. The number of concurrent checks is limited, so that a burst of logins exhausts neither memory nor CPU, and so
is the number of those that wait: others are refused with 429. No check holds a connection of the database.

A name without an account costs the same hash as one with an account, so the time of an answer does not tell them apart.
A wrong password that is sent again within seconds costs no further hash.
"""

import collections
import contextlib
import hmac
import secrets
import threading
from collections.abc import Callable
from typing import Any

from cachetools import TTLCache
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import REQUEST_LIMIT_EXCEEDED
from werkzeug.security import check_password_hash, generate_password_hash

from mlops_mlflow_server import metrics

KEPT = 10_000
AT_A_TIME = 2
# At 30 checks a second, less than a second's work.
MOST_WAITING = 24
# Wrong passwords are refused without a hash for this long.
WRONG_SECONDS = 5.0
_NEEDED = ("authenticate_user", "_get_user")


class Checks:
    """Replacement for werkzeug's `check_password_hash`."""

    def __init__(
        self,
        check: Callable[[str, str], bool] = check_password_hash,
        kept: int = KEPT,
        at_a_time: int = AT_A_TIME,
        most_waiting: int = MOST_WAITING,
    ):
        self._check = check
        self._kept = kept
        self._wrong: TTLCache = TTLCache(maxsize=kept, ttl=WRONG_SECONDS)
        # Those who check, and those who wait.
        self._places = threading.Semaphore(at_a_time + most_waiting)
        # Random, so cached hashes are useless outside of this process.
        self._key = secrets.token_bytes(32)
        self._good: collections.OrderedDict[bytes, None] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(at_a_time)

    def _digest(self, stored: str, password: str, name: str) -> bytes:
        text = f"{len(stored)}:{stored}{len(name)}:{name}{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")

    def _known(self, digest: bytes) -> bool | None:
        """Return the result of a former check, if there is one."""
        with self._lock:
            if digest in self._good:
                self._good.move_to_end(digest)
                return True
            return False if digest in self._wrong else None

    def __call__(self, stored: str, password: str, name: str = "") -> bool:
        """Return whether `stored` is the hash of `password`, which was sent for the account `name`.

        Raises:
            MlflowException: too many checks wait; MLflow answers 429.
        """
        if not isinstance(password, str):
            return False
        digest = self._digest(stored, password, name)
        known = self._known(digest)
        metrics.LOGIN_CHECKS.labels("password", "miss" if known is None else "hit").inc()
        if known is not None:
            return known
        if not self._places.acquire(blocking=False):
            metrics.REFUSED.labels("password checks").inc()
            raise MlflowException("Too many logins at once. Try again in a moment.", REQUEST_LIMIT_EXCEEDED)
        try:
            with self._turns:
                # A concurrent call with the same password may have checked it.
                known = self._known(digest)
                if known is None:
                    known = self._check(stored, password)
                    self._remember(digest, known)
                return known
        finally:
            self._places.release()

    def _remember(self, digest: bytes, is_right: bool) -> None:
        with self._lock:
            if not is_right:
                self._wrong[digest] = None
                return
            self._good[digest] = None
            while len(self._good) > self._kept:
                self._good.popitem(last=False)


def install(module: Any) -> bool:
    """Replace the password check of MLflow's user store in `module`; return whether this version has one."""
    store: Any = getattr(module, "SqlAlchemyStore", None)
    if not hasattr(module, "check_password_hash") or not all(hasattr(store, name) for name in _NEEDED):
        return False
    check = Checks(module.check_password_hash)
    # Of no password.
    dummy = generate_password_hash(secrets.token_urlsafe(32))

    def authenticate_user(self: Any, username: str, password: str, *, use_primary: bool = False) -> bool:
        stored = None
        # MlflowException: there is no such account.
        with self.ManagedSessionMaker(read_only=not use_primary) as session, contextlib.suppress(MlflowException):
            stored = self._get_user(session, username).password_hash
        is_right = check(stored or dummy, password, username)
        return is_right and stored is not None

    module.check_password_hash = check
    store.authenticate_user = authenticate_user
    return True
