"""Checks of a role's preflight that depend on what the cluster has, or on several variables at once."""

import functools

import pytest
from ansible_collections.mlops.mlflow.plugins.filter.components import removals

from tests.lib import checks, rendering
from tests.lib import options as variants

CONTROLLER = "sealed-secrets/sealed-secrets-controller"


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def refusal(role, options=None, of=None):
    """What the preflight of a role says, which has what has to be given."""
    return checks.refusal(get_role(role), variants.BASE.get(role, {}) | (options or {}), of)


def seen(**found):
    """The cluster with something more in it."""
    return {"platform_cluster": rendering.CLUSTER | found}


# --- certificates ---

ISSUED = {
    "platform_tls": "cert_manager",
    "mlflow_url": "https://m.example.com",
    "keycloak_url": "https://k.example.com",
}


@pytest.mark.parametrize(
    ("issuer", "missing"),
    [
        ({"name": "company"}, ""),
        ({"name": "other"}, "ClusterIssuer/other"),
        ({"kind": "Issuer", "name": "team"}, "Issuer/keycloak/team"),
        ({"kind": "Issuer", "name": "other"}, "Issuer/keycloak/other, Issuer/mlflow/other"),
    ],
)
def test_an_issuer_has_to_be_there(issuer, missing):
    there = seen(api_groups=["cert-manager.io"], issuers=["ClusterIssuer/company", "Issuer/mlflow/team"])
    message = refusal("mlflow", there | ISSUED | {"platform_tls_issuer": issuer}, of="platform")
    assert bool(message) == bool(missing), message
    if missing:
        assert f"the cluster has no {missing}; it has ClusterIssuer/company, Issuer/mlflow/team" in message


def test_issuers_that_may_not_be_listed_are_not_looked_for():
    there = seen(api_groups=["cert-manager.io"], unreadable=["issuers"])
    assert refusal("mlflow", there | ISSUED | {"platform_tls_issuer": {"name": "x"}}, of="platform") == ""


@pytest.mark.parametrize(
    "acme",
    [
        {"ingress_class": "nginx"},
        {"solvers": [{"dns01": {}}]},
        # Left to the edge: its class, and the cluster's default one.
        {},
        {"platform_ingress_class": "", "default_ingress_class": "public"},
    ],
)
def test_an_issuer_that_is_made_needs_an_address_and_who_answers(acme):
    edge = {"platform_edge": "ingress", "platform_ingress_class": acme.get("platform_ingress_class", "nginx")}
    there = seen(api_groups=["cert-manager.io"], default_ingress_class=acme.get("default_ingress_class", "")) | ISSUED
    own = {key: value for key, value in acme.items() if key in ("ingress_class", "solvers")}
    there |= {} if own else edge
    assert refusal("mlflow", there | {"platform_tls_acme": {"email": "a@b.c", **own}}, of="platform") == ""


def test_an_issuer_cannot_be_there_before_cert_manager():
    """A run that deploys it would wait for certificates in vain."""
    components = {"platform_components": ["mlflow", "keycloak", "cert_manager"]}
    issuer = {"platform_tls_issuer": {"kind": "Issuer", "name": "team"}}
    message = refusal("mlflow", ISSUED | components | issuer, of="platform")
    assert "the cluster has no Issuer/keycloak/team, Issuer/mlflow/team; it has none" in message
    made = {"platform_tls_acme": {"email": "a@b.c", "ingress_class": "nginx"}}
    assert refusal("mlflow", ISSUED | components | made, of="platform") == ""


@pytest.mark.parametrize(
    ("groups", "manager", "unreadable", "other"),
    [
        ([], "", [], ""),
        (["cert-manager.io"], "mlops.mlflow", [], ""),
        (["cert-manager.io"], "Helm", [], "Helm"),
        (["cert-manager.io"], "", [], "another one"),
        (["cert-manager.io"], "", ["cert_manager"], ""),
    ],
)
def test_another_cert_manager_is_refused(groups, manager, unreadable, other):
    message = refusal("cert_manager", seen(api_groups=groups, cert_manager=manager, unreadable=unreadable))
    assert bool(message) == bool(other), message
    assert not other or f"a cert-manager already, which {other} manages: leave cert_manager out of" in message


@pytest.mark.parametrize(
    ("issuers", "unreadable", "kept"),
    [
        (["Issuer/mlflow/mlflow-acme", "Issuer/keycloak/mlflow-acme"], [], []),
        (["Issuer/mlflow/mlflow-acme", "Issuer/team/company"], [], ["CustomResourceDefinition"]),
        ([], ["issuers"], ["CustomResourceDefinition"]),
    ],
)
def test_certificates_of_others_keep_their_definition(issuers, unreadable, kept):
    found = seen(issuers=issuers, unreadable=unreadable)
    assert get_role("cert_manager").value("cert_manager_component.kept_kinds", found) == kept


@pytest.mark.parametrize("role", ["keycloak", "mlflow"])
@pytest.mark.parametrize("tls", ["cert_manager", "own_ca"])
def test_a_sealed_certificate_is_handed_over_when_cert_manager_takes_over(role, tls):
    """By module credentials, which leaves the Secret: nothing of it is switched off."""
    options = variants.BASE.get(role, {}) | seen(sealed_secrets=[f"{role}/{role}-tls", f"{role}/other"])
    options |= ISSUED | {"platform_tls": tls, "platform_tls_acme": {"email": "a@b.c", "ingress_class": "nginx"}}
    component = get_role(role).registered(options)
    assert [each for each in component["switched_off"] if each["kind"] == "SealedSecret"] == []
    [edge] = [each["certificate"] for each in component["secrets"] if each["name"] == f"{role}-tls"]
    assert edge.get("issuer") == ("mlflow-acme" if tls == "cert_manager" else None)
    assert ("authority" in edge) is (tls == "own_ca")


@pytest.mark.parametrize("role", ["keycloak", "mlflow"])
def test_a_former_certificate_goes(role):
    there = seen(certificates=[f"{role}/{role}-tls"])

    def gone(more):
        options = variants.BASE.get(role, {}) | there | more
        return [each["kind"] for each in get_role(role).registered(options)["switched_off"]]

    assert "Certificate" in gone({})
    assert "Certificate" not in gone(ISSUED | {"platform_tls_issuer": {"name": "company"}})


# --- Sealed Secrets ---


@pytest.mark.parametrize(
    ("controllers", "other"),
    [
        ({}, ""),
        ({CONTROLLER: "mlops.mlflow"}, ""),
        ({CONTROLLER: "Helm"}, CONTROLLER),
        (
            {CONTROLLER: "mlops.mlflow", "kube-system/sealed-secrets-controller": ""},
            "kube-system/sealed-secrets-controller",
        ),
        ({"other/sealed-secrets-controller": "mlops.mlflow"}, "other/sealed-secrets-controller"),
    ],
)
def test_another_controller_is_refused(controllers, other):
    message = refusal("sealed_secrets", seen(sealed_secrets_controllers=controllers))
    assert bool(message) == bool(other)
    if other:
        assert (
            f"the Sealed Secrets controller {other} already: leave sealed_secrets out of platform_components" in message
        )


def test_rights_are_not_those_of_another_controller():
    """What has no namespace has a name that no other stack and no published controller has."""
    role = get_role("sealed_secrets")
    names = [
        {
            each["metadata"]["name"]
            for each in role.render("sealed-secrets.rbac.yaml.j2", options)
            if each["kind"].startswith("Cluster")
        }
        for options in ({}, {"sealed_secrets_namespace": "other"})
    ]
    assert names[0] == {"mlops-mlflow-sealed-secrets-unsealer"}
    assert names[1] == {"mlops-mlflow-other-unsealer"}


def test_sealed_secrets_of_others_keep_their_definition():
    role = get_role("sealed_secrets")
    options = {
        "keycloak_service_accounts": [
            {"name": "ci", "namespaces": ["team"]},
            {"name": "etl", "secret": "x", "namespaces": ["team"]},
        ],
        "postgres_extra_roles": [{"name": "odd_name", "namespaces": ["team"]}],
        "minio_extra_buckets": [{"name": "b.c", "namespaces": ["team"]}],
    }
    own = [
        "mlflow/a",
        "keycloak/b",
        "team/keycloak-client-ci",
        "team/x",
        "team/odd-name-db-credentials",
        "team/b-c-s3-secret",
    ]
    for others in ([], ["mlflow-b/a"], ["team/own"]):
        assert role.value("__sealed_secrets_of_others", options | seen(sealed_secrets=own + others)) == others
    assert role.value("__sealed_secrets_of_others", seen(unreadable=["sealed_secrets"]))


# --- ports on the nodes ---


@pytest.mark.parametrize(
    ("port", "well"),
    [(30000, True), ("32767", True), (29999, False), (32768, False), (8080, False), ("30800\n1", False), ("", False)],
)
def test_range_of_node_ports(port, well):
    for role in ("keycloak", "mlflow"):
        assert (refusal(role, {f"{role}_node_port": port}) == "") == well
        ignored = {f"{role}_service_type": "ClusterIP"}
        assert port == "" or "\n" in str(port) or refusal(role, {f"{role}_node_port": port, **ignored}) == ""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, []),
        ({"keycloak_node_port": 30880}, []),
        ({"keycloak_node_port": "30800"}, ["mlflow_node_port", "keycloak_node_port"]),
        ({"keycloak_node_port": 30800, "keycloak_service_type": "ClusterIP"}, []),
        ({"keycloak_node_port": 30800, "platform_components": ["mlflow"]}, []),
        ({"mlflow_oauth2_proxy_api_service_type": "NodePort", "mlflow_oauth2_proxy_api_node_port": 30800}, []),
        (
            {
                "mlflow_auth": "oauth2_proxy",
                "mlflow_oauth2_proxy_api_service_type": "NodePort",
                "mlflow_oauth2_proxy_api_node_port": 30800,
            },
            ["mlflow_node_port", "mlflow_oauth2_proxy_api_node_port"],
        ),
    ],
)
def test_each_service_has_a_port_of_its_own(options, names):
    message = refusal("mlflow", options)
    assert message == (
        f"{', '.join(names)} are 30800, 30800: each needs a port of its own, so name another" if names else ""
    )


# --- Secrets of others ---


def provided(role, **options):
    """Names of the Secrets that preflight looks for, with what else is in the inventory."""
    return [
        each["name"] for each in get_role(role).value(f"{role}_component", options)["secrets"] if each.get("existing")
    ]


def test_the_secret_of_another_database_is_looked_for():
    assert provided("keycloak") == []
    external = {"keycloak_db_host": "db.example.com"}
    assert provided("keycloak", **external) == ["keycloak-db-credentials"]
    supplied = {"keycloak-db-credentials": {"username": {"value": "k"}, "password": {"env": "PASSWORD"}}}
    assert provided("keycloak", **external, platform_credentials=supplied) == []
    database = get_role("keycloak").value("__keycloak_secrets", external | {"platform_credentials": supplied})[0]
    assert database["keys"] == {"username": {}, "password": {}}


@pytest.mark.parametrize("mode", ["oidc", "basic", "oauth2_proxy", "none"])
def test_the_authority_of_the_database_is_looked_for(mode):
    options = {"mlflow_auth": mode, "mlflow_db_ca_secret": "company-ca"}
    assert provided("mlflow", **options) == ["company-ca"]
    # Of the provider too: it is one Secret all the same.
    assert provided("mlflow", **options, mlflow_oidc_ca_secret="company-ca") == ["company-ca"]


@pytest.mark.parametrize("mode", ["oidc", "basic", "oauth2_proxy", "none"])
@pytest.mark.parametrize("provider", ["", "company-ca"])
def test_a_renewed_authority_of_the_database_replaces_the_pods(mode, provider):
    options = {
        "mlflow_auth": mode,
        "mlflow_db_ca_secret": "company-ca",
        "mlflow_oidc_ca_secret": provider,
        "mlflow_image": "x",
    }
    digests = [
        get_role("mlflow").render(
            "mlflow.deployment.yaml.j2", options | {"platform_fingerprints": {"mlflow/company-ca": digest}}
        )[0]["spec"]["template"]["metadata"]["annotations"]["mlops.mlflow/credentials"]
        for digest in ("before", "after")
    ]
    assert digests == ["before", "after"]


# --- volumes ---


@pytest.mark.parametrize(
    ("options", "well"),
    [
        ({}, True),
        ({"postgres_storage_size": "10240Mi", "postgres_storage_class": "standard"}, True),
        ({"postgres_storage_size": "1Ti"}, True),
        ({"postgres_storage_size": "10G"}, False),
        ({"postgres_storage_class": "fast"}, False),
        ({"postgres_storage_class": "fast", "postgres_namespace": "other"}, True),
    ],
)
def test_what_is_fixed_of_a_volume_of_postgres(options, well):
    there = seen(volumes={"postgres/postgres-data": {"class": "standard", "mib": 10240}})
    message = refusal("postgres", options | there)
    assert (message == "") == well
    where = "the volume postgres/postgres-data is there, of the class 'standard' and of 10240Mi;"
    assert well or message.endswith(f"{where} it keeps its class, and can only grow")


@pytest.mark.parametrize(
    ("options", "count", "well"),
    [
        ({}, 0, True),
        ({}, 1, True),
        ({"minio_replicas": "4"}, 4, True),
        ({"minio_replicas": 4}, 1, False),
        ({"minio_replicas": 8}, 4, False),
        ({"minio_replicas": 4}, 5, False),
        ({"minio_storage_size": "100Gi", "minio_storage_class": "standard"}, 1, True),
        ({"minio_storage_size": "19Gi"}, 1, False),
        ({"minio_storage_class": "fast"}, 1, False),
    ],
)
def test_what_is_fixed_of_the_volumes_of_minio(options, count, well):
    volumes = {f"minio/data-minio-{number}": {"class": "standard", "mib": 20480} for number in range(count)}
    volumes |= {"minio-b/data-minio-0": {"class": "other", "mib": 2**30}}
    message = refusal("minio", options | seen(volumes=volumes))
    assert (message == "") == well
    assert well or f"in the namespace minio, {count} of the class 'standard' and of 20480Mi;" in message


# --- connections of PostgreSQL ---


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        # Two workers of three pools of 24, two for each of two databases, and one; Keycloak's 20; the superuser's 3.
        ({}, 2 * (3 * 24 + 4 + 1) + 20 + 3),
        ({"mlflow_auth": "none"}, 2 * (2 * 24 + 2 + 1) + 20 + 3),
        ({"mlflow_workers": "2", "mlflow_replicas": 3}, 6 * 77 + 23),
        ({"keycloak_replicas": 2, "keycloak_db_pool_size": 30}, 2 * 77 + 63),
        ({"keycloak_extra_env": {"KC_DB_POOL_MAX_SIZE": 50}}, 2 * 77 + 53),
        ({"keycloak_db_host": "db.example.com"}, 2 * 77 + 3),
        ({"mlflow_db_host": "db.example.com"}, 23),
        ({"platform_components": ["postgres", "minio"]}, 3),
    ],
)
def test_connections_are_enough_for_all(options, needed):
    # What is known where the other roles are in the run.
    known = {
        name: str(get_role(name.partition("_")[0]).value(name))
        for name in ("mlflow_replicas", "mlflow_workers", "mlflow_auth", "keycloak_replicas", "keycloak_db_pool_size")
    }
    for given in ({"postgres_max_connections": max(needed, 20)}, {"postgres_settings": {"max_connections": needed}}):
        assert refusal("postgres", known | options | given) == ""
    message = refusal("postgres", known | options | {"postgres_settings": {"max_connections": needed - 1}})
    assert message.startswith(f"postgres_max_connections is {needed - 1}: {needed} or more")
    assert refusal("postgres", {"postgres_max_connections": 20}) == ""


@pytest.mark.parametrize(("replicas", "connections"), [(1, 200), (2, 200), (3, 300), (12, 1000)])
def test_connections_follow_the_workers(replicas, connections):
    role = get_role("postgres")
    options = {"mlflow_replicas": replicas, "mlflow_workers": 1, "keycloak_replicas": 1, "keycloak_db_pool_size": 20}
    assert int(role.value("postgres_max_connections", options)) == connections
    assert refusal("postgres", options) == ""


def test_pools_are_as_they_are_counted():
    [deployment] = get_role("mlflow").render("mlflow.deployment.yaml.j2", {"mlflow_image": "x"})
    given = {each["name"]: each.get("value") for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    pool = get_role("mlflow").value("platform_mlflow_pool")
    for prefix, overflow in (
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"),
        ("OIDC_DB_POOL_SIZE", "OIDC_DB_POOL_MAX_OVERFLOW"),
    ):
        assert int(given[prefix]) + int(given[overflow]) == pool
    assert pool >= 2 * int(given["MLOPS_TRACKING_THREADS"]) + int(given["MLOPS_ARTIFACT_THREADS"])
    [servers] = get_role("keycloak").render("keycloak.statefulset.yaml.j2", {"keycloak_db_pool_size": 31})
    env = servers["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "KC_DB_POOL_MAX_SIZE", "value": "31"} in env


# --- credentials that are supplied ---

LISTED = {
    "postgres_extra_roles": [
        {"name": "grafana"},
        {"name": "odd_name-1", "secret": "its-own", "namespaces": ["elsewhere"]},
    ],
    "minio_extra_buckets": [{"name": "backups.2026"}, {"name": "more", "secret": "s3-more"}],
    "keycloak_service_accounts": [
        {"name": "ci.1", "namespaces": ["elsewhere"]},
        {"name": "etl", "secret": "etl-login"},
    ],
    "keycloak_users": [{"name": "ada"}],
    "mlflow_access": {"users": {"ada": {}}},
}


# What some inventories alone have.
LINKED = {
    "mlflow_db_ca_secret": "db-ca",
    "mlflow_oidc_ca_secret": "company-ca",
    "mlflow_otlp_endpoint": "https://collector.example.com",
    "mlflow_otlp_ca_secret": "collector-ca",
    "mlflow_otlp_headers_secret": "collector-headers",
}
KNOWN = "keys by the name of a Secret, which is one of keycloak-admin, "


@functools.cache
def declared():
    """Names of all Secrets that a role asks for, over the ways to log in and external dependencies."""
    own = {"mlflow_db_host": "db.example.com", "keycloak_db_host": "db.example.com", "platform_components": ["mlflow"]}
    names = set()
    for mode in ("oidc", "basic", "oauth2_proxy", "none"):
        for provider in ("oidc", "github", "google"):
            for more in ({}, own, LINKED):
                options = LISTED | {"mlflow_auth": mode, "mlflow_oauth2_proxy_provider": provider} | more
                found = get_role("mlflow").value("__mlflow_secrets + __mlflow_access_secrets", options)
                names |= {str(each["name"]) for each in found}
    for role in ("postgres", "minio", "keycloak"):
        for more in ({}, own):
            names |= {str(each["name"]) for each in get_role(role).value(f"__{role}_secrets", LISTED | more)}
    return sorted(names)


@pytest.mark.parametrize("role", rendering.COMPONENTS)
def test_every_secret_of_a_role_may_be_supplied(role):
    """Also where the role that has it is not in the run."""
    supplied = {name: {"password": {"env": "X"}} for name in declared()}
    assert len(supplied) > 20, sorted(supplied)
    options = LISTED | LINKED
    assert refusal(role, options | {"platform_credentials": supplied}, of="platform") == ""


@pytest.mark.parametrize(
    ("supplied", "expected"),
    [
        (
            {"mlflow-db-credential": {"password": {"value": "hidden"}}},
            f"platform_credentials has mlflow-db-credential: {KNOWN}",
        ),
        ({"mlflow-admin": {}, "a": "hidden", "b": 1}, f"platform_credentials has a, b: {KNOWN}"),
        (["hidden"], "argument 'platform_credentials' is of type list and we were unable to convert to dict"),
        ("hidden", "argument 'platform_credentials' is of type str and we were unable to convert to dict"),
        (5, "argument 'platform_credentials' is of type int and we were unable to convert to dict"),
        ("hidden=hidden", "platform_credentials is not shown: a mapping"),
    ],
)
def test_a_secret_that_no_role_has_is_refused(supplied, expected):
    # Each check reports only what is its own.
    for more in ({}, {"postgres_extra_roles": "x", "minio_extra_buckets": 5, "keycloak_service_accounts": ["x", {}]}):
        options = more | {"platform_credentials": supplied}
        message = refusal("mlflow", options, of="platform")
        assert message.startswith(expected)
        assert "hidden" not in message


# --- what an uninstall with the data removes ---


@pytest.mark.parametrize("others", [[], ["team/own"]])
def test_an_uninstall_leaves_others_their_sealed_secrets(others):
    role = get_role("sealed_secrets")
    options = {"sealed_secrets_delete_data": True} | seen(sealed_secrets=["mlflow/a", *others])
    component = role.value("sealed_secrets_component", options)
    workloads, removed = removals([role.manifests(options)], [component])
    names = {(each["kind"], each["metadata"]["name"]) for each in removed}
    assert ("CustomResourceDefinition" in {kind for kind, _unused in names}) == (not others)
    assert ("ClusterRole", "mlops-mlflow-sealed-secrets-unsealer") in names
    assert "secrets-unsealer" not in {name for _unused, name in names}
    assert ("Namespace", "sealed-secrets") in names
    assert [each["kind"] for each in workloads] == ["Deployment"]
    assert "Service" not in {kind for kind, _unused in names}, "it goes with its namespace"


# --- monitoring ---


def test_monitors_need_the_operator_and_a_way_in():
    there = seen(api_groups=["monitoring.coreos.com"]) | {"platform_monitoring": "operator"}
    message = refusal(
        "mlflow", {"platform_monitoring": "operator", "platform_monitoring_namespaces": ["m"]}, of="platform"
    )
    assert "the cluster does not know monitoring.coreos.com: install the Prometheus operator first" in message
    assert "\n" not in message.strip()
    assert "platform_monitoring_namespaces is [] with platform_monitoring" in refusal("mlflow", there, of="platform")
    assert refusal("mlflow", there | {"platform_network_policies": False}, of="platform") == ""
    assert refusal("mlflow", there | {"platform_monitoring_namespaces": ["m"]}, of="platform") == ""


def test_a_token_of_minio_has_to_be_named():
    there = seen(api_groups=["monitoring.coreos.com"]) | {"platform_monitoring": "operator"}
    assert refusal("minio", there) == ""
    message = refusal("minio", there | {"minio_prometheus_auth": "jwt"})
    assert "minio_prometheus_secret is '' with minio_prometheus_auth 'jwt'" in message
    assert refusal("minio", there | {"minio_prometheus_auth": "jwt", "minio_prometheus_secret": "token"}) == ""


# --- major versions of PostgreSQL ---


@pytest.mark.parametrize(
    ("deployed", "wanted", "says"),
    [
        ("postgres:15.4", "postgres:17.7", "run playbooks/upgrade.yml"),
        ("postgres:17.7", "postgres:15.4", "an image of PostgreSQL 17 or newer"),
        ("postgres:17.6", "postgres:17.7", ""),
        ("postgres@sha256:99aa", "postgres:17.7", ""),
        ("", "postgres:17.7", ""),
    ],
)
def test_an_image_of_another_major_version_is_refused_before_the_server_is_stopped(deployed, wanted, says):
    options = seen(images={"postgres/postgres": deployed} if deployed else {}) | {"postgres_image": wanted}
    message = refusal("postgres", options)
    assert (says in message) if says else message == ""
    # By upgrade.yml, and where a backup of another one is restored.
    for allowed in ({"platform_upgrading": True}, {"platform_restore": "latest"}):
        assert refusal("postgres", options | allowed) == ""


def test_the_job_of_an_upgrade_runs_in_both_images_and_back_in_the_former_one():
    def images(back):
        known = variants.MAJOR | {"postgres_image": "postgres:17", "__postgres_back": back}
        (job,) = get_role("postgres").render("postgres-upgrade.job.yaml.j2", known)
        pod = job["spec"]["template"]["spec"]
        return [(each["name"], each["image"]) for each in [*pod.get("initContainers", []), *pod["containers"]]]

    former = variants.MAJOR["postgres_major"]["image"]
    assert images(back=False) == [("dump", former), ("load", "postgres:17")]
    assert images(back=True) == [("back", former)]
