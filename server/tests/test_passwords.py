"""A password is hashed once for each stored hash, with limited concurrency."""

import threading
import time

import pytest
from mlflow.exceptions import MlflowException
from mlflow.server.auth import sqlalchemy_store


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


def test_wrong_password_is_remembered_for_seconds_and_for_one_name(passwords, monkeypatch):
    monkeypatch.setattr(passwords, "WRONG_SECONDS", 0.2)
    check = Counting()
    checks = passwords.Checks(check)
    assert [checks("hash of a", "b", "ada") for _unused in range(3)] == [False] * 3
    assert check.calls == 1
    # Else the time of an answer would tell that two names have no account.
    assert not checks("hash of a", "b", "bob")
    assert check.calls == 2
    time.sleep(0.3)
    assert not checks("hash of a", "b", "ada")
    assert check.calls == 3


def test_too_many_that_wait_are_refused(passwords):
    checks = passwords.Checks(Counting(lasts=0.3), at_a_time=1, most_waiting=1)
    assert checks("hash of known", "known")
    refused = []

    def call(word):
        try:
            checks(f"hash of {word}", word)
        except MlflowException as error:
            refused.append(error.get_http_status_code())

    threads = [threading.Thread(target=call, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    # Who is known waits for nothing.
    began = time.monotonic()
    assert checks("hash of known", "known")
    assert time.monotonic() - began < 0.2
    for thread in threads:
        thread.join()
    assert refused == [429, 429]


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


@pytest.fixture
def users(passwords, restored, tmp_path):
    """MLflow's real store of users with one account, and the check that it now calls."""
    restored(sqlalchemy_store, "check_password_hash")
    restored(sqlalchemy_store.SqlAlchemyStore, "authenticate_user")
    store = sqlalchemy_store.SqlAlchemyStore()
    store.init_db(f"sqlite:///{tmp_path}/users.db")
    store.create_user("ada", "the password of ada")
    assert passwords.install(sqlalchemy_store)
    yield store
    store.engine.dispose()


def test_mlflows_store_uses_it(users):
    assert users.authenticate_user("ada", "the password of ada")
    assert not users.authenticate_user("ada", "another password")
    assert not users.authenticate_user("bob", "the password of ada")


def test_unknown_name_costs_a_hash(users, monkeypatch):
    checked = []
    monkeypatch.setattr(sqlalchemy_store.check_password_hash, "_check", lambda *words: bool(checked.append(words)))
    for name in ("ada", "bob"):
        assert not users.authenticate_user(name, "wrong")
    (of_known, _unused), (of_unknown, _unused) = checked
    # The same algorithm with the same cost.
    assert of_known.split("$")[0] == of_unknown.split("$")[0]


def test_no_connection_is_held_during_a_check(users, monkeypatch):
    taken = []
    monkeypatch.setattr(
        sqlalchemy_store.check_password_hash,
        "_check",
        lambda *_words: bool(taken.append(users.engine.pool.checkedout())),
    )
    users.authenticate_user("ada", "wrong")
    assert taken == [0]


def test_another_version_is_noticed(passwords):
    assert not passwords.install(type("other", (), {}))
    assert not passwords.install(type("other", (), {"check_password_hash": None, "SqlAlchemyStore": object}))
