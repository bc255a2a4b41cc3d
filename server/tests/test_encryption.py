"""Keys of the AI gateway's secrets and of webhooks, against the tables and functions of the real MLflow."""

import shutil

import pytest
import sqlalchemy
from cryptography.fernet import Fernet, InvalidToken
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _initialize_tables
from mlflow.store.model_registry.dbmodels.models import SqlWebhook
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils import crypto

from lib import process
from mlops_mlflow_server import encryption
from mlops_mlflow_server.databases import Failure

PASSPHRASE = "a generated passphrase of the stack"
OWN = "a passphrase that a user set before"
KEY = Fernet.generate_key().decode()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database with MLflow's schema."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    _initialize_tables(engine)
    engine.dispose()
    return path


@pytest.fixture
def uri(template, tmp_path):
    shutil.copy(template, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def engine(uri):
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def store(uri, tmp_path):
    return SqlAlchemyStore(uri, str(tmp_path / "artifacts"))


@pytest.fixture
def use(monkeypatch):
    """A function that configures passphrase, its version and the key of webhooks, as a process' environment does."""

    def use(passphrase=PASSPHRASE, key=KEY, version="1"):
        for name, value in (
            ("MLFLOW_CRYPTO_KEK_PASSPHRASE", passphrase),
            ("MLFLOW_CRYPTO_KEK_VERSION", version),
            ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", key),
        ):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        # MLflow reads the key once, at its import, and an engine once, at the first use of the column.
        monkeypatch.setattr(SqlWebhook.__table__.c.secret.type, "cipher", Fernet(key or Fernet.generate_key()))

    return use


def rows(engine, table="secrets"):
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")))


def test_secrets_of_the_published_passphrase_are_usable_with_the_configured_one(engine, store, use, capsys):
    use(passphrase=None)
    made = [store.create_gateway_secret(f"key-{n}", {"api_key": f"sk-{n}"}, provider="openai") for n in range(3)]
    use()
    encryption.ensure(engine)
    assert [store._get_decrypted_secret(each.secret_id) for each in made] == [{"api_key": f"sk-{n}"} for n in range(3)]
    assert "3 secrets of the AI gateway are now encrypted" in capsys.readouterr().out
    use(passphrase=crypto.DEFAULT_KEK_PASSPHRASE)
    with pytest.raises(Exception, match="Failed to decrypt"):
        store._get_decrypted_secret(made[0].secret_id)


def test_a_second_run_changes_nothing(engine, store, use, capsys):
    use(passphrase=None)
    store.create_gateway_secret("key", {"api_key": "sk"})
    use()
    encryption.ensure(engine)
    before = rows(engine)
    capsys.readouterr()
    encryption.ensure(engine)
    assert rows(engine) == before
    assert capsys.readouterr().out == ""


def test_a_passphrase_that_a_user_set_before_is_kept(engine, store, use):
    use(OWN)
    made = store.create_gateway_secret("key", {"api_key": "sk"})
    before = rows(engine)
    encryption.ensure(engine)
    assert rows(engine) == before
    assert store._get_decrypted_secret(made.secret_id) == {"api_key": "sk"}


def test_a_passphrase_that_opens_nothing_ends_the_start_and_changes_nothing(engine, store, use):
    use(OWN)
    store.create_gateway_secret("own", {"api_key": "sk"})
    use(passphrase=None)
    store.create_gateway_secret("published", {"api_key": "sk"})
    before = rows(engine)
    use()
    with pytest.raises(Failure, match=r"does not open the secrets of the AI gateway \(own\): set the passphrase"):
        encryption.ensure(engine)
    assert rows(engine) == before


def test_a_secret_that_was_lost_before_does_not_end_the_start(engine, store, use, capsys):
    use(OWN)
    store.create_gateway_secret("own", {"api_key": "sk"})
    use()
    made = store.create_gateway_secret("good", {"api_key": "sk"})
    encryption.ensure(engine)
    assert "have to be set again: own" in capsys.readouterr().out
    assert store._get_decrypted_secret(made.secret_id) == {"api_key": "sk"}


def test_a_secret_that_a_pod_without_the_passphrase_added_meanwhile_is_wrapped_too(engine, store, use):
    use()
    first = store.create_gateway_secret("first", {"api_key": "sk-1"})
    encryption.ensure(engine)
    use(passphrase=None)
    late = store.create_gateway_secret("late", {"api_key": "sk-2"})
    use()
    encryption.ensure(engine)
    assert store._get_decrypted_secret(first.secret_id) == {"api_key": "sk-1"}
    assert store._get_decrypted_secret(late.secret_id) == {"api_key": "sk-2"}


def test_another_version_of_the_same_passphrase_is_followed(engine, store, use):
    use()
    made = store.create_gateway_secret("key", {"api_key": "sk"})
    use(version="2")
    encryption.ensure(engine)
    assert store._get_decrypted_secret(made.secret_id) == {"api_key": "sk"}
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT kek_version FROM secrets")) == 2


def test_an_interrupted_run_changes_nothing(engine, store, use, monkeypatch):
    use(passphrase=None)
    for name in ("first", "second"):
        store.create_gateway_secret(name, {"api_key": "sk"})
    before = rows(engine)
    use()
    done = []

    def rotate(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return crypto.rotate_secret_encryption(*arguments)

    monkeypatch.setattr(encryption, "rotate_secret_encryption", rotate)
    with pytest.raises(KeyboardInterrupt):
        encryption.ensure(engine)
    assert rows(engine) == before


@pytest.mark.parametrize("passphrase", [None, "", crypto.DEFAULT_KEK_PASSPHRASE])
def test_the_published_passphrase_ends_the_start(engine, use, passphrase):
    use(passphrase=passphrase)
    with pytest.raises(Failure, match="MLFLOW_CRYPTO_KEK_PASSPHRASE is not set"):
        encryption.ensure(engine)


def test_a_missing_key_of_webhooks_ends_the_start(engine, use):
    use(key=None)
    with pytest.raises(Failure, match="MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY is not set"):
        encryption.ensure(engine)


# --- webhooks ---


@pytest.fixture
def registry(uri):
    return Registry(uri)


EVENTS = [WebhookEvent(WebhookEntity.REGISTERED_MODEL, WebhookAction.CREATED)]


def add(registry, name):
    # An address, since MLflow resolves names. It is never called.
    return registry.create_webhook(name, "https://1.1.1.1/mlflow", EVENTS, secret="s3cret")


def test_webhooks_of_a_lost_key_are_disabled_and_the_others_kept(engine, registry, use, capsys):
    use()
    add(registry, "lost")
    add(registry, "good")
    with engine.begin() as connection:
        text = Fernet(Fernet.generate_key()).encrypt(b"s3cret").decode()
        connection.execute(sqlalchemy.text("UPDATE webhooks SET secret = :text WHERE name = 'lost'"), {"text": text})
    with pytest.raises(MlflowException) as listing:
        registry.list_webhooks()
    assert isinstance(listing.value.__cause__, InvalidToken)
    encryption.ensure(engine)
    assert {each.name: (each.status, each.secret) for each in registry.list_webhooks()} == {
        "lost": ("DISABLED", None),
        "good": ("ACTIVE", "s3cret"),
    }
    assert "The webhook lost is disabled" in capsys.readouterr().out


def test_a_second_run_keeps_webhooks(engine, registry, use):
    use()
    add(registry, "good")
    encryption.ensure(engine)
    before = rows(engine, "webhooks"), rows(engine, "mlops_encryption")
    encryption.ensure(engine)
    assert (rows(engine, "webhooks"), rows(engine, "mlops_encryption")) == before


def test_another_key_of_webhooks_ends_the_start_and_changes_nothing(engine, registry, use):
    use()
    add(registry, "good")
    encryption.ensure(engine)
    before = rows(engine, "webhooks")
    use(key=Fernet.generate_key().decode())
    with pytest.raises(Failure, match=r"is not the key that the secrets of the webhooks were encrypted with \(good\)"):
        encryption.ensure(engine)
    assert rows(engine, "webhooks") == before


def test_another_key_is_taken_where_no_webhook_has_a_secret(engine, use, registry):
    use()
    encryption.ensure(engine)
    use(key=Fernet.generate_key().decode())
    encryption.ensure(engine)
    add(registry, "good")
    encryption.ensure(engine)
    assert [each.secret for each in registry.list_webhooks()] == ["s3cret"]


# --- rotations ---

KEYS = [Fernet.generate_key().decode() for _unused in range(5)]
PASSPHRASES = [f"the passphrase number {number} of the stack" for number in range(5)]


@pytest.fixture
def turn(use, monkeypatch):
    """A function that configures the keys as they are after a number of rotations."""
    monkeypatch.setattr(crypto, "unwrap_dek", crypto.unwrap_dek)

    def turn(number):
        use(PASSPHRASES[number], KEYS[number])
        for variable, values in (
            ("MLFLOW_CRYPTO_KEK_PASSPHRASE", PASSPHRASES),
            ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", KEYS),
        ):
            monkeypatch.setenv(f"MLOPS_PREVIOUS_{variable}", values[number - 1])
            monkeypatch.setenv(f"MLOPS_NEXT_{variable}", values[number + 1])
        assert encryption.accept()

    return turn


def test_a_rotation_encrypts_again_what_the_previous_keys_opened(engine, store, registry, turn, capsys):
    turn(1)
    made = store.create_gateway_secret("key", {"api_key": "sk"})
    add(registry, "hook")
    encryption.ensure(engine)
    turn(2)
    encryption.ensure(engine)
    said = capsys.readouterr().out
    assert "1 secrets of the AI gateway are now encrypted" in said
    assert "1 secrets of webhooks are now encrypted" in said
    # Which does not know the keys of the first time.
    turn(3)
    assert store._get_decrypted_secret(made.secret_id) == {"api_key": "sk"}
    assert [(each.status, each.secret) for each in registry.list_webhooks()] == [("ACTIVE", "s3cret")]
    turn(2)
    before = rows(engine), rows(engine, "webhooks"), rows(engine, "mlops_encryption")
    encryption.ensure(engine)
    assert (rows(engine), rows(engine, "webhooks"), rows(engine, "mlops_encryption")) == before


def test_both_sides_of_a_rotation_read_what_the_other_wrote(engine, store, registry, turn):
    for writer, reader in ((1, 2), (2, 1)):
        turn(writer)
        made = store.create_gateway_secret(f"key-{writer}", {"api_key": "sk"})
        hook = add(registry, f"hook-{writer}")
        turn(reader)
        assert store._get_decrypted_secret(made.secret_id) == {"api_key": "sk"}
        assert registry.get_webhook(hook.webhook_id).secret == "s3cret"


def test_a_process_of_before_a_rotation_leaves_what_is_written_after_it(engine, store, registry, turn, capsys):
    turn(2)
    store.create_gateway_secret("key", {"api_key": "sk"})
    add(registry, "hook")
    encryption.ensure(engine)
    before = rows(engine), rows(engine, "webhooks"), rows(engine, "mlops_encryption")
    turn(1)
    encryption.ensure(engine)
    assert (rows(engine), rows(engine, "webhooks"), rows(engine, "mlops_encryption")) == before
    assert "gateway" not in capsys.readouterr().out


# --- the migration and the server as they run in the cluster ---


def test_a_server_reports_that_it_has_a_passphrase_of_its_own(none):
    with none.client() as client:
        answer = client.get("/ajax-api/3.0/mlflow/gateway/secrets/config")
    assert answer.json()["using_default_passphrase"] is False


def test_a_former_stack_is_converted_and_another_passphrase_ends_migration_and_server(migrated, tmp_path):
    databases = migrated("oidc").copy()
    code = (
        "import os; from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore;"
        " store = SqlAlchemyStore(os.environ['MLFLOW_BACKEND_STORE_URI'], '/tmp');"
    )
    add = code + "print(store.create_gateway_secret('key', {'api_key': 'sk'}).secret_id)"
    made = process.run(add, MLFLOW_BACKEND_STORE_URI=databases.variables["MLFLOW_BACKEND_STORE_URI"]).stdout.strip()
    first, second = databases.migrate("none"), databases.migrate("none")
    assert "1 secrets of the AI gateway are now encrypted" in first.stdout, first.stderr
    assert "gateway" not in second.stdout
    show = code + f"import json; print(json.dumps(store._get_decrypted_secret({made!r})))"
    assert process.result(show, **databases.variables) == {"api_key": "sk"}

    another = {"MLFLOW_CRYPTO_KEK_PASSPHRASE": "another passphrase"}
    sentence = "MLFLOW_CRYPTO_KEK_PASSPHRASE does not open the secrets of the AI gateway (key)"
    failed = databases.migrate("none", **another)
    assert (failed.returncode, sentence in failed.stderr) == (1, True)
    server = process.Server(tmp_path, {**databases.variables, **another, "MLOPS_AUTH": "none"})
    try:
        assert server.process.wait(120) == 1
    finally:
        server.stop()
    assert sentence in server.log()
    assert "Traceback" not in server.log()
