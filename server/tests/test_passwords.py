"""A password is hashed once for each stored hash, with limited concurrency."""

import threading
import time

import pytest


class Counting:
    """A slow check that counts its calls."""

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
        return stored == f"hash of {password}"


@pytest.fixture
def passwords(load):
    return load("passwords")


def test_valid_password_is_hashed_once(passwords):
    check = Counting()
    checks = passwords.Checks(check)
    assert [checks("hash of a", "a") for _unused in range(3)] == [True] * 3
    assert check.calls == 1


def test_wrong_password_is_not_cached(passwords):
    check = Counting()
    checks = passwords.Checks(check)
    assert [checks("hash of a", "b") for _unused in range(3)] == [False] * 3
    assert check.calls == 3


def test_changed_password_takes_effect_at_once(passwords):
    checks = passwords.Checks(Counting())
    assert checks("hash of a", "a")
    assert not checks("hash of b", "a")


@pytest.mark.parametrize(("stored", "password"), [("hash of a", "a1"), ("hash of ", "aa"), ("hash of aa", "")])
def test_hash_and_password_are_separated_unambiguously(passwords, stored, password):
    checks = passwords.Checks(Counting())
    assert checks("hash of a", "a")
    assert not checks(stored, password)


@pytest.mark.parametrize("password", [None, b"a", 1])
def test_password_must_be_a_string(passwords, password):
    assert not passwords.Checks(Counting())("hash of a", password)


def test_oldest_entry_is_evicted(passwords):
    check = Counting()
    checks = passwords.Checks(check, kept=2)
    for word in ("a", "b", "c", "a"):
        assert checks(f"hash of {word}", word)
    assert check.calls == 4


def test_concurrent_checks_are_limited_and_shared(passwords):
    check = Counting(lasts=0.05)
    checks = passwords.Checks(check, at_a_time=2)
    threads = [
        threading.Thread(target=checks, args=(f"hash of {word}", word))
        for word in ("a", "b", "c", "d")
        for _unused in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check.most == 2
    assert check.calls <= 8


def test_replaces_werkzeugs_function(passwords):
    module = type("module", (), {"check_password_hash": staticmethod(Counting())})
    assert passwords.install(module)
    assert module.check_password_hash("hash of a", "a")
    assert not passwords.install(type("other", (), {}))
