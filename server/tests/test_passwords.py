"""A password is hashed once for each stored hash, with limited concurrency."""

import threading
import time

import pytest
from mlflow.server.auth import sqlalchemy_store
from werkzeug.security import check_password_hash, generate_password_hash

from mlops_mlflow_server import passwords


def hashed(word):
    return generate_password_hash(word, method="pbkdf2:sha256:1")


class Counting:
    """werkzeug's check, which counts its calls and may take longer."""

    def __init__(self, lasts=0.0):
        self.calls = 0
        self.running = 0
        self.most = 0
        self._lasts = lasts
        self._lock = threading.Lock()

    def __call__(self, stored, password):
        with self._lock:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self._lasts)
        with self._lock:
            self.running -= 1
        return check_password_hash(stored, password)


A = hashed("a")


def test_valid_password_is_hashed_once():
    check = Counting()
    checks = passwords.Checks(check)
    assert [checks(A, "a") for _unused in range(3)] == [True] * 3
    assert check.calls == 1


def test_wrong_password_is_not_cached():
    check = Counting()
    checks = passwords.Checks(check)
    assert [checks(A, "b") for _unused in range(3)] == [False] * 3
    assert check.calls == 3


def test_changed_password_takes_effect_at_once():
    checks = passwords.Checks()
    assert checks(A, "a")
    assert not checks(hashed("b"), "a")


def test_hash_and_password_are_separated_unambiguously():
    check = Counting()
    checks = passwords.Checks(check)
    assert checks(A, "a")
    for stored, password in ((A, "a1"), (A[:-1], A[-1] + "a"), (A + "a", "")):
        assert not checks(stored, password)


@pytest.mark.parametrize("password", [None, b"a", 1])
def test_password_must_be_a_string(password):
    assert not passwords.Checks()(A, password)


def test_oldest_entry_is_evicted():
    check = Counting()
    checks = passwords.Checks(check, kept=2)
    stored = {word: hashed(word) for word in "abc"}
    for word in ("a", "b", "c", "a"):
        assert checks(stored[word], word)
    assert check.calls == 4


def test_concurrent_checks_are_limited_and_shared():
    check = Counting(lasts=0.05)
    checks = passwords.Checks(check, at_a_time=2)
    stored = {word: hashed(word) for word in "abcd"}
    threads = [threading.Thread(target=checks, args=(stored[word], word)) for word in stored for _unused in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check.most == 2
    assert check.calls <= 8


def test_basic_auth_uses_the_cache(restored, monkeypatch, tmp_path):
    store = sqlalchemy_store.SqlAlchemyStore()
    store.init_db(f"sqlite:///{tmp_path / 'basic.db'}")
    store.create_user("ada", "a long password")
    check = Counting()
    monkeypatch.setattr(sqlalchemy_store, "check_password_hash", check)
    assert passwords.install(sqlalchemy_store)
    assert [store.authenticate_user("ada", "a long password") for _unused in range(3)] == [True] * 3
    assert check.calls == 1
    store.update_user("ada", password="another password")
    assert not store.authenticate_user("ada", "a long password")


def test_version_without_the_function_is_detected(monkeypatch):
    monkeypatch.delattr(sqlalchemy_store, "check_password_hash")
    assert not passwords.install(sqlalchemy_store)
