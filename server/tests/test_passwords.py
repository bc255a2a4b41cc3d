"""A password is hashed once for each stored hash, with limited concurrency."""

import threading
import time

import pytest
from mlflow.exceptions import MlflowException
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


def test_wrong_password_is_remembered_for_seconds_and_for_one_name(monkeypatch):
    monkeypatch.setattr(passwords, "WRONG_SECONDS", 0.2)
    check = Counting()
    checks = passwords.Checks(check)
    assert [checks(A, "b", "ada") for _unused in range(3)] == [False] * 3
    assert check.calls == 1
    # Else the time of an answer would tell that two names have no account.
    assert not checks(A, "b", "bob")
    assert check.calls == 2
    time.sleep(0.3)
    assert not checks(A, "b", "ada")
    assert check.calls == 3


def test_too_many_that_wait_are_refused():
    checks = passwords.Checks(Counting(lasts=0.3), at_a_time=1, most_waiting=1)
    stored = {word: hashed(word) for word in ("known", *"abcd")}
    assert checks(stored["known"], "known")
    refused = []

    def call(word):
        try:
            checks(stored[word], word)
        except MlflowException as error:
            refused.append(error.get_http_status_code())

    threads = [threading.Thread(target=call, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    # Who is known waits for nothing.
    began = time.monotonic()
    assert checks(stored["known"], "known")
    assert time.monotonic() - began < 0.2
    for thread in threads:
        thread.join()
    assert refused == [429, 429]


def test_changed_password_takes_effect_at_once():
    checks = passwords.Checks(Counting())
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


@pytest.fixture
def users(restored, tmp_path):
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


def test_password_of_an_account_is_hashed_once_and_can_be_changed(users, monkeypatch):
    check = Counting()
    monkeypatch.setattr(sqlalchemy_store.check_password_hash, "_check", check)
    assert [users.authenticate_user("ada", "the password of ada") for _unused in range(3)] == [True] * 3
    assert check.calls == 1
    users.update_user("ada", password="another password")
    assert not users.authenticate_user("ada", "the password of ada")


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


def test_another_version_is_noticed():
    assert not passwords.install(type("other", (), {}))
    assert not passwords.install(type("other", (), {"check_password_hash": None, "SqlAlchemyStore": object}))


def test_version_without_the_function_is_detected(monkeypatch):
    monkeypatch.delattr(sqlalchemy_store, "check_password_hash")
    assert not passwords.install(sqlalchemy_store)
