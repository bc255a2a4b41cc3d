"""A role's argument specification is its reference: it names what defaults/main.yml holds, no more and no less."""

import pathlib
import re

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.plugin_utils.constraints import FORMATS

from tests.lib import checks, rendering

ROLES = sorted(path.name for path in rendering.ROLES.iterdir() if (path / "defaults" / "main.yml").exists())
# Values that roles share and roles' own states stand in one role's defaults, whatever their prefix.
SHARED = "platform"


class StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that has two equal keys, a merged one among them: Ansible warns of it in every run."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _unused in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there two times", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node):
        own = {key.value for key, _unused in node.value if key.tag != "tag:yaml.org,2002:merge"}
        super().flatten_mapping(node)
        for key, _unused in node.value[: len(node.value) - len(own)]:
            if key.value in own:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is merged and given", key.start_mark)


def load(path):
    return yaml.load(path.read_text(), Loader=StrictLoader) or {}  # noqa: S506  a safe loader


@pytest.fixture(params=ROLES)
def role(request):
    return request.param


@pytest.fixture
def defaults(role):
    return load(rendering.ROLES / role / "defaults" / "main.yml")


@pytest.fixture
def specification(role):
    return load(rendering.ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]


def literal(value):
    """Whether a default is what it looks like, and not made of other variables."""
    return "{{" not in str(value)


def test_same_names(defaults, specification):
    assert set(specification["main"]["options"]) == {name for name in defaults if not name.startswith("__")}


def test_same_values(defaults, specification):
    different = {
        name: (value, specification["main"]["options"][name].get("default"))
        for name, value in defaults.items()
        if not name.startswith("__")
        and literal(value)
        and specification["main"]["options"][name].get("default", value if value == "" else None) != value
    }
    assert not different, "(defaults/main.yml, argument_specs.yml)"


def test_entry_points_ask_for_the_same(specification):
    assert specification["main"]["short_description"]
    if "preflight" in specification:
        assert specification["preflight"]["options"] == specification["main"]["options"]


def test_entry_points_are_files_of_tasks(role, specification):
    assert [name for name in specification if not (rendering.ROLES / role / "tasks" / f"{name}.yml").exists()] == []


def parts(options, prefix=""):
    """The paths of all options, with those of dictionaries."""
    for name, option in options.items():
        path = prefix + name
        yield path, option
        yield from parts(option.get("options", {}), f"{path}[]." if option["type"] == "list" else f"{path}.")


@pytest.fixture(scope="module")
def known():
    """All options of all roles, by their paths."""
    return {path: option for role in ROLES for path, option in parts(checks.specification(role))}


def test_constraints_are_of_options_that_there_are(role, known):
    for path, constraint in checks.constraints(role).items():
        assert re.sub(r"(\[\]|\{\}|\.\*)+$", "", path) in known, path
        assert not constraint.format or constraint.format in {*FORMATS, "quantity"}, path
        re.compile(constraint.pattern)


def test_numbers_and_switches_are_what_filters_take_for_them(role):
    """Ansible's own check takes 3.0 for an int and "y" for true, and leaves the variable as it is."""
    if (rendering.ROLES / role / "meta" / "constraints.yml").exists():
        kinds = {
            path: option["type"] for path, option in parts(checks.specification(role)) if not path.startswith(LEFT)
        }
        missing = {path for path, kind in kinds.items() if kind in ("int", "bool")} - checks.constraints(role).keys()
        assert missing == set()


# Those of mlflow_access and mlflow_clients have checks of their own, and images_* are the module's.
LEFT = ("mlflow_access", "mlflow_clients", "images_")


def test_lists_and_dictionaries_are_not_made_of_texts(role):
    """Ansible's own check takes "a" for [a] and "a=b" for {a: b}, and leaves the variable as it is."""
    paths = checks.constraints(role)
    wanted = {
        path: f"{path}[]" if option["type"] == "list" else path
        for path, option in parts(checks.specification(role))
        if option["type"] in ("list", "dict") and not path.startswith(LEFT)
    }
    missing = [
        path
        for path, beginning in wanted.items()
        if not any(re.match(re.escape(beginning) + r"([.{\[]|$)", each) for each in paths)
    ]
    assert missing == []


def test_every_option_is_described(specification):
    for name, option in parts(specification["main"]["options"]):
        assert option.get("description"), name
        assert option.get("type"), name
        if option["type"] == "list":
            assert option.get("elements"), name
        default = option.get("default")
        if "choices" in option and default is not None:
            listed = option["type"] == "list"
            # A list that is made of other variables is described by a text.
            assert listed or default in option["choices"], name
            assert not isinstance(default, list) or set(default) <= set(option["choices"]), name


def test_names_carry_their_role(role, defaults):
    if role == SHARED:
        return
    unprefixed = [name for name in defaults if not name.startswith((f"{role}_", "__"))]
    assert not unprefixed


def test_names_are_unique():
    owners = {}
    for role in ROLES:
        for name in load(rendering.ROLES / role / "defaults" / "main.yml"):
            owners.setdefault(name, []).append(role)
    assert {name: roles for name, roles in owners.items() if len(roles) > 1} == {}


@pytest.mark.parametrize(
    "path",
    sorted(
        path.relative_to(rendering.REPOSITORY)
        for folder in ("roles", "playbooks", "inventory", "molecule", ".config", "tests/inventory")
        for path in (rendering.REPOSITORY / folder).rglob("*.yml")
        if "files" not in path.parts
    ),
    ids=str,
)
def test_keys_are_unique(path):
    for document in yaml.compose_all((rendering.REPOSITORY / path).read_text()):
        if document is not None:
            loader = StrictLoader("")
            loader.construct_document(document)


def test_the_strict_loader_is_strict():
    for text in ("a: 1\na: 2\n", "x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n"):
        with pytest.raises(yaml.constructor.ConstructorError):
            yaml.load(text, Loader=StrictLoader)  # noqa: S506  a safe loader
    merged = yaml.load("x: &x {a: 1}\ny:\n  <<: *x\n  b: 2\n", Loader=StrictLoader)  # noqa: S506  a safe loader
    assert merged["y"] == {"a": 1, "b": 2}


def test_components_have_the_same_files(role):
    if role not in rendering.COMPONENTS:
        return
    place: pathlib.Path = rendering.ROLES / role
    for name in ("README.md", "defaults/main.yml", "meta/main.yml", "tasks/main.yml", "vars/main.yml", "templates"):
        assert (place / name).exists(), name


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("platform_timeout", [10], [9]),
        ("mlflow_db_port", [1, 65535], [0, 65536]),
        ("sealed_secrets_output_dir", ["", "/a", "~/a"], ["a", "./a"]),
        ("sealed_secrets_key_renew_period", ["0", "720h"], ["1", "-1h"]),
        ("postgres_memory", ["256Mi"], ["255Mi"]),
        ("postgres_storage_size", ["1Gi"], ["999Mi"]),
        ("postgres_max_connections", [20, 10000], [19, 10001]),
        ("postgres_settings{}", ["work_mem", "pg_stat_statements.max"], ["port", "Work", "a.b.c"]),
        ("postgres_roles[].name", ["a-1_b"], ["1a", "pg_a", "public", "A", "a" * 64]),
        ("minio_replicas", [1, 4, 16], [0, 2, 3, 17, "04"]),
        ("minio_memory", ["512Mi"], ["511Mi"]),
        ("minio_storage_size", ["1G"], ["953Mi"]),
        ("minio_settings{}", ["MINIO_A"], ["minio", "MINIO_VOLUMES"]),
        ("keycloak_replicas", [1], [0]),
        ("keycloak_memory", ["768Mi"], ["767Mi"]),
        ("keycloak_db_pool_size", [5, 1000], [4, 1001]),
        ("keycloak_extra_env{}", ["KC_LOG_LEVEL"], ["KC_DB_PASSWORD", "my_secret", "A-B"]),
        ("keycloak_session_idle_timeout", [60], [59]),
        ("keycloak_realm", ["a.B-1"], ["master", "", "a" * 37]),
        ("keycloak_users[].name", ["ada", "a.b"], ["ab", "Ada", "a" * 64]),
        ("keycloak_users[].email", ["Ada@example.org"], ["ada", "a@b@c", "a b@c"]),
        ("keycloak_groups[]", ["data science"], ["a/b", " a", ""]),
        ("mlflow_replicas", [1, 100], [0, 101]),
        ("mlflow_workers", [1, 64], [0, 65]),
        ("mlflow_oidc_session_lifetime", [300], [299]),
        ("mlflow_oidc_allowed_groups", [["a"]], [[]]),
        ("mlflow_oidc_allowed_groups[]", ["a b"], ["a,b", " a", ""]),
        ("mlflow_oidc_scopes[]", ["openid"], ['a"b', "a b", "a\\b"]),
        ("mlflow_permission_cache_seconds", [0], ["", -1]),
        ("mlflow_oauth2_proxy_session_lifetime", [300, 31536000], [299, 31536001]),
        ("mlflow_oauth2_proxy_session_refresh", [30], [29]),
        ("kind_cluster_name", ["a", "a" * 50], ["A", "-a", "a" * 51]),
        ("kind_cluster_node_ports[]", [30000, 32767], [29999, 32768]),
    ],
)
def test_limits(path, good, bad):
    constraint = next(found[path] for role in ROLES if path in (found := checks.constraints(role)))
    assert [each for each in good if not constraint.allows(each)] == []
    assert [each for each in bad if constraint.allows(each)] == []
