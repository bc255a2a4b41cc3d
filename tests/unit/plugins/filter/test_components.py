"""Filters over components and over the lists that they are made from."""

import inspect

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow.plugins.filter.components import (
    FilterModule,
    account_names,
    environment_of_keys,
    fill_in,
    given,
    hashes_of,
    in_namespaces,
    objects_at,
    places_of_secrets,
    program_clients,
    references,
    removals,
    rotatable,
    seconds_of_duration,
    secrets_of_components,
    secrets_of_dependencies,
    secrets_of_items,
    up_to,
)

from tests.lib import REPOSITORY

FILTERS = FilterModule().filters()
PASSWORD = {"generate": "password", "length": 32}


def secret(name, *namespaces, **more):
    return {"name": name, "namespaces": list(namespaces), "keys": {"password": PASSWORD}} | more


def test_a_secret_of_several_components_is_listed_once_and_at_home_first():
    components = [
        {"name": "postgres", "secrets": [secret("db", "postgres", "mlflow")]},
        {"name": "nothing"},
        {"name": "mlflow", "secrets": [secret("own", "mlflow"), secret("db", "mlflow", existing=False)]},
    ]
    assert secrets_of_components(components) == [secret("db", "postgres", "mlflow"), secret("own", "mlflow")]
    assert components[0]["secrets"][0]["namespaces"] == ["postgres", "mlflow"], "what was given stays as it is"


@pytest.mark.parametrize("difference", [{"existing": True}, {"keys": {"password": {}}}])
def test_secrets_of_one_name_that_differ_stay_apart(difference):
    components = [{"secrets": [secret("db", "a")]}, {"secrets": [secret("db", "b", **difference)]}]
    assert [each["namespaces"] for each in secrets_of_components(components)] == [["a"], ["b"]]


def test_secrets_that_components_make_are_labelled():
    issued = secret("tls", "a", certificate={"hosts": [], "issuer": "ca"})
    components = [{"secrets": [secret("db", "a"), secret("given", "a", existing=True), issued]}]
    labelled = secrets_of_components(components, {"made-by": "us"})
    assert [each.get("labels") for each in labelled] == [{"made-by": "us"}, None, None]


def test_up_to():
    components = [{"name": name} for name in "abcd"]
    assert up_to(components, [components[1], components[2]]) == components[:3]
    assert up_to(components, []) == []


def test_places_of_secrets():
    issued = secret("tls", "a", certificate={"hosts": [], "issuer": "ca"})
    assert places_of_secrets([secret("db", "a", "b"), issued, secret("ca", "b", existing=True)]) == [
        {"namespace": "a", "name": "db", "existing": False},
        {"namespace": "b", "name": "db", "existing": False},
        {"namespace": "b", "name": "ca", "existing": True},
    ]


def test_fill_in():
    lists = [
        [{"name": "a_b.c"}, {"name": "d", "secret": "x", "namespaces": ["home", "other"], "versioning": True}],
        [{"name": "e", "secret": None, "namespaces": None}],
    ]
    assert fill_in(lists, "home", "{slug}-login", {"versioning": False}) == [
        {"name": "a_b.c", "secret": "a-b-c-login", "namespaces": ["home"], "versioning": False},
        {"name": "d", "secret": "x", "namespaces": ["home", "other"], "versioning": True},
        {"name": "e", "secret": "e-login", "namespaces": ["home"], "versioning": False},
    ]
    assert fill_in([[{"name": "a.b"}]], "home", "client-{name}")[0]["secret"] == "client-a.b"


@pytest.mark.parametrize("wrong", ["text", 5, {"name": "x"}, ["text", 5, {}, {"secret": "x"}]])
def test_what_is_no_item_is_left_out(wrong):
    assert [each["name"] for each in fill_in([wrong, [{"name": "a"}]], "home", "{name}")] == ["a"]


def test_secrets_of_items():
    items = fill_in([[{"name": "etl", "namespaces": ["team"]}]], "home", "{name}-login")
    assert secrets_of_items(items, {"username": "name", "password": PASSWORD}) == [
        {
            "name": "etl-login",
            "namespaces": ["home", "team"],
            "keys": {"username": {"value": "etl"}, "password": PASSWORD},
        }
    ]


def test_accounts_have_two_names():
    items = fill_in([[{"name": "etl"}]], "home", "{name}-login")
    (found,) = secrets_of_items(items, {"username": "account", "password": PASSWORD})
    assert found["keys"] == {"username": {"value": "etl", "alternate": "etl_2"}, "password": PASSWORD}
    assert account_names("etl") == found["keys"]["username"]


def test_environment_of_keys():
    found = environment_of_keys({"SECRET_KEY": "secret-key"}, "keys")
    assert [(each["name"], each["valueFrom"]["secretKeyRef"]) for each in found] == [
        ("SECRET_KEY", {"name": "keys", "key": "secret-key"}),
        ("MLOPS_PREVIOUS_SECRET_KEY", {"name": "keys", "key": "secret-key-previous", "optional": True}),
        ("MLOPS_NEXT_SECRET_KEY", {"name": "keys", "key": "secret-key-next", "optional": True}),
    ]


def test_what_is_made_here_may_be_rotated():
    def certificate(name, **more):
        return {"name": name, "namespaces": ["one"], "certificate": {"authority": "one/ca", **more}}

    secrets = [
        secret("made", "one"),
        secret("there", "one", existing=True),
        secret("given", "one"),
        secret("kept", "one"),
        secret("literal", "one", keys={"url": {"value": "http://x"}, "ca.crt": {}, "other": None}),
        certificate("tls"),
        certificate("of-cert-manager", issuer="x"),
        certificate("of-others", authority=""),
        certificate("ca", authority="", ca=True),
    ]
    assert rotatable(secrets, {"given": {}}, ["kept"]) == {
        "secrets": ["made"],
        "certificates": ["tls"],
        "authorities": ["ca"],
    }


def test_secrets_of_dependencies():
    def dependency(name, own):
        return {"name": name, "variable": f"{name}_secret", "own": own, "keys": {"password": PASSWORD}}

    found = secrets_of_dependencies(
        [dependency("made", True), dependency("there", False), dependency("given", False), dependency("made", False)],
        "mlflow",
        {"given": {}},
    )
    assert [(each["name"], each["existing"], each["keys"]["password"]) for each in found] == [
        ("made", False, PASSWORD),
        ("there", True, {}),
        ("given", False, {}),
    ]
    assert {(each["namespaces"][0], each["variable"]) for each in found} >= {("mlflow", "made_secret")}


def test_hashes_of():
    assert hashes_of(["a", "b", "c"], {"ns/a": "1", "other/b": "2", "ns/c": "3"}, "ns") == "1  3"
    assert hashes_of(["a"], {}, "ns") == ""


def test_what_others_have_of_credentials():
    secrets = fill_in([[{"name": "etl", "namespaces": ["team", "mlflow"]}]], "postgres", "{name}")
    secrets += fill_in([[{"name": "ci", "namespaces": ["team"]}]], "keycloak", "{name}")
    places = given(secrets, ["postgres"], ["postgres", "keycloak", "mlflow"])
    assert places == ["team/etl"]
    assert objects_at(places, {"SealedSecret": "bitnami.com/v1alpha1", "Secret": "v1"}) == [
        {
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"namespace": "team", "name": "etl"},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "etl"}},
    ]


def thing(kind, name, namespace=None, version="v1"):
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
    }


MANIFESTS = [
    [
        thing("Namespace", "a"),
        thing("PersistentVolumeClaim", "data", "a"),
        thing("Service", "s", "a"),
        thing("StatefulSet", "w", "a", "apps/v1"),
    ],
    [
        thing("Namespace", "b"),
        thing("CustomResourceDefinition", "d"),
        thing("ClusterRole", "r"),
        thing("Service", "s", "b"),
        thing("Role", "r", "elsewhere"),
    ],
]


@pytest.mark.parametrize(
    ("data", "kept", "expected"),
    [
        ((False, False), [], ["Role r", "Service s", "ClusterRole r", "Service s"]),
        ((True, True), [], ["Role r", "ClusterRole r", "CustomResourceDefinition d", "Namespace b", "Namespace a"]),
        ((True, True), ["CustomResourceDefinition"], ["Role r", "ClusterRole r", "Namespace b", "Namespace a"]),
        ((True, False), [], ["Role r", "Service s", "ClusterRole r", "Namespace a"]),
    ],
)
def test_removals(data, kept, expected):
    components = [
        {"namespace": "a", "delete_data": data[0]},
        {"namespace": "b", "delete_data": data[1], "kept_kinds": kept},
    ]
    workloads, rest = removals(MANIFESTS, components, [thing("Secret", "given", "elsewhere")])
    assert [each["kind"] for each in workloads] == ["StatefulSet"]
    assert [f"{each['kind']} {each['metadata']['name']}" for each in rest] == ["Secret given", *expected]


def test_an_object_is_removed_once():
    components = [{"namespace": "a", "delete_data": False}, {"namespace": "b", "delete_data": True}]
    _workloads, rest = removals(MANIFESTS, components, [thing("ClusterRole", "r")])
    assert [each["kind"] for each in rest].count("ClusterRole") == 1


def test_in_namespaces():
    objects = [thing("Namespace", "a"), thing("Service", "s", "a"), thing("Service", "s", "b")]
    assert in_namespaces(objects, ["a"]) == objects[:2]


def test_references():
    assert references([thing("Namespace", "a"), thing("Deployment", "d", "a", "apps/v1")]) == [
        {"api_version": "v1", "kind": "Namespace", "name": "a"},
        {"api_version": "apps/v1", "kind": "Deployment", "name": "d", "namespace": "a"},
    ]


def test_program_clients():
    programs = fill_in([[{"name": "ci", "secret": "ci-login"}]], "keycloak", "keycloak-client-{name}")
    (client,) = program_clients(programs, "keycloak", [{"name": "audience"}])
    assert client["secret"] == {"namespace": "keycloak", "name": "ci-login"}
    assert (client["service_accounts"], client["standard_flow"], client["mappers"]) == (
        True,
        False,
        [{"name": "audience"}],
    )


@pytest.mark.parametrize(("text", "seconds"), [("24h", 86400), ("90m", 5400), ("1h30m5s", 5405), ("7s", 7)])
def test_seconds_of_duration(text, seconds):
    assert seconds_of_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "1d", "24h ", "-1h", "1.5h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(AnsibleFilterError, match="is no duration such as"):
        seconds_of_duration(text)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_documented(name):
    """Without documentation of one filter, Galaxy shows none of all."""
    page = yaml.safe_load((REPOSITORY / "plugins" / "filter" / f"{name}.yml").read_text())["DOCUMENTATION"]
    arguments = list(inspect.signature(FILTERS[name]).parameters)[1:]
    assert page["name"] == name
    assert page["positional"].split(", ") == ["_input", *arguments]
    assert list(page["options"]) == ["_input", *arguments]
