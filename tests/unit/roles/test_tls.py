"""TLS between components, as their templates have it: who has which key, and whom a client verifies."""

import base64
import functools
import json
import urllib.parse

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.certificates import _covers

from tests.lib import options as variants
from tests.lib import rendering

ROLES = ("postgres", "minio", "keycloak", "mlflow")
WORKLOADS = ("Deployment", "StatefulSet", "Job")


@functools.cache
def get_role(name):
    """A role, loaded once."""
    return rendering.Role(name)


def manifests(role, options=None):
    return get_role(role).manifests(variants.BASE.get(role, {}) | (options or {}))


def workloads(role, options=None):
    """The workloads of a role by their names, those of Jobs without the hash."""
    return {
        each["metadata"]["labels"].get("mlops.mlflow/job", each["metadata"]["name"]): each
        for each in manifests(role, options)
        if each["kind"] in WORKLOADS
    }


def variables(workload):
    """The variables of a workload's first container by their names."""
    return {each["name"]: each.get("value") for each in workload["spec"]["template"]["spec"]["containers"][0]["env"]}


def issued(role, options=None):
    """The certificates of a role by the names of their Secrets."""
    options = variants.BASE.get(role, {}) | (options or {})
    secrets = get_role(role).registered(options)["secrets"]
    return {each["name"]: each["certificate"] for each in secrets if "certificate" in each}


def test_no_pod_has_the_key_of_the_ca():
    seen = set()
    for role in ROLES:
        assert "mlflow-ca" in issued(role)
        for workload in workloads(role, {"mlflow_auth": "oauth2_proxy"}).values():
            for volume in workload["spec"]["template"]["spec"].get("volumes", []):
                assert volume.get("secret", {}).get("secretName") != "mlflow-ca"
                seen.add(volume.get("configMap", {}).get("name"))
            assert '"secretKeyRef": {"name": "mlflow-ca"' not in json.dumps(workload)
    assert "mlflow-ca" in seen, "the ConfigMap of its name"


def test_only_the_job_logs_in_as_the_superuser():
    having = [
        name
        for role in ROLES
        for name, workload in workloads(role).items()
        if "postgres-superuser-tls" in json.dumps(workload)
    ]
    assert having == ["postgres-provision"]
    assert issued("postgres")["postgres-superuser-tls"] == {
        "authority": "mlflow/mlflow-ca",
        "client": True,
        "common_name": "postgres",
        "days": 90,
        "hosts": [],
    }


@pytest.mark.parametrize(("tls", "kinds"), [(True, {"local", "hostssl"}), (False, {"local", "host"})])
def test_postgresql_takes_no_connection_without_tls(tls, kinds):
    (config,) = [
        each["data"]
        for each in manifests("postgres", {"platform_internal_tls": tls})
        if each["metadata"]["name"] == "postgres-config"
    ]
    lines = [line.split() for line in config["pg_hba.conf"].splitlines() if not line.startswith("#")]
    assert {line[0] for line in lines} == kinds
    assert ("ssl = 'on'" in config["postgresql.conf"]) is tls
    # The first line that fits decides.
    superuser = next(line for line in lines if line[0].startswith("host") and line[2] in ("all", "postgres"))
    assert ("clientcert=verify-full" in superuser) is tls


def test_clients_verify_whom_they_call():
    server = variables(workloads("mlflow")["mlflow"])
    file = "/etc/mlflow/ca/ca.crt"
    assert [server[name] for name in ("PGSSLROOTCERT", "AWS_CA_BUNDLE", "SSL_CERT_FILE")] == [file] * 3
    for workload in (workloads("mlflow")["mlflow-migrate"], workloads("postgres")["postgres-provision"]):
        assert variables(workload)["PGSSLMODE"] == "verify-full"
    keycloak = variables(workloads("keycloak")["keycloak"])
    assert keycloak["KC_DB_URL_PROPERTIES"] == "?sslmode=verify-full&sslrootcert=/etc/keycloak-tls/ca.crt"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"postgres_namespace": "db", "minio_namespace": "store", "keycloak_namespace": "login"},
        {
            "mlflow_db_host": "postgres.postgres.svc.company.internal",
            "keycloak_db_host": "postgres.postgres",
            "mlflow_s3_endpoint": "https://minio.minio.svc.company.internal:9000",
        },
    ],
)
def test_certificates_are_for_the_names_by_which_clients_call(options):
    server = variables(workloads("mlflow", options)["mlflow"])
    called = {
        "postgres": [
            urllib.parse.urlsplit(server["MLFLOW_BACKEND_STORE_URI"]).hostname,
            variables(workloads("keycloak", options)["keycloak"])["KC_DB_URL_HOST"],
            variables(workloads("postgres", options)["postgres-provision"])["PGHOST"],
        ],
        "minio": [urllib.parse.urlsplit(server["MLFLOW_S3_ENDPOINT_URL"]).hostname],
        "keycloak": [urllib.parse.urlsplit(server["OIDC_DISCOVERY_URL"]).hostname],
    }
    for role, hosts in called.items():
        names = issued(role, options)[f"{role}-server-tls"]["hosts"]
        for host in hosts:
            assert any(_covers(name, host) for name in names), (host, names)


def test_an_external_database_and_store_keep_their_own_settings():
    options = {"platform_components": ["keycloak", "mlflow"], "mlflow_db_host": "db", "keycloak_db_host": "db"}
    options |= {"mlflow_s3_endpoint": "https://s3.example.com"}
    server = variables(workloads("mlflow", options)["mlflow"])
    assert server["PGSSLMODE"] == "prefer"
    assert server["PGSSLROOTCERT"] == ""
    assert "AWS_CA_BUNDLE" not in server
    assert "KC_DB_URL_PROPERTIES" not in variables(workloads("keycloak", options)["keycloak"])


@pytest.mark.parametrize(("role", "host"), [("mlflow", "m.example.com"), ("keycloak", "k.example.com")])
def test_the_edge_has_a_certificate_for_its_host(role, host):
    urls = {"mlflow_url": "https://m.example.com:8443", "keycloak_url": "https://k.example.com"}
    assert f"{role}-tls" not in issued(role, urls)
    own = issued(role, urls | {"platform_tls": "own_ca"})[f"{role}-tls"]
    assert (own["hosts"], own["authority"]) == ([host], "mlflow/mlflow-ca")
    existing = issued(role, urls | {"platform_tls": "secret"})[f"{role}-tls"]
    assert existing == {"hosts": [host], "common_name": "", "client": False}
    options = urls | {
        "platform_tls": "cert_manager",
        "platform_tls_acme": {"email": "a@b.c", "ingress_class": "traefik"},
    }
    made = {each["kind"]: each for each in manifests(role, options) if each["apiVersion"] == "cert-manager.io/v1"}
    assert made["Certificate"]["spec"]["dnsNames"] == [host]
    assert made["Certificate"]["spec"]["issuerRef"]["name"] == made["Issuer"]["metadata"]["name"]
    answers = {"ingressClassName": "traefik", "serviceType": "ClusterIP"}
    assert made["Issuer"]["spec"]["acme"]["solvers"] == [{"http01": {"ingress": answers}}]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # What the edge says, where platform_tls_acme says nothing.
        (
            {"platform_edge": "ingress", "platform_ingress_class": "public"},
            {"ingress": {"ingressClassName": "public", "serviceType": "ClusterIP"}},
        ),
        ({"platform_edge": "ingress", "platform_ingress_class": ""}, {"ingress": {"serviceType": "ClusterIP"}}),
        (
            {
                "platform_edge": "gateway",
                "platform_gateway": {"name": "g", "namespace": "e", "section_name": "s", "http_section_name": "h"},
            },
            {
                "gatewayHTTPRoute": {
                    "parentRefs": [
                        {
                            "group": "gateway.networking.k8s.io",
                            "kind": "Gateway",
                            "name": "g",
                            "namespace": "e",
                            "sectionName": "h",
                        }
                    ],
                    "serviceType": "ClusterIP",
                }
            },
        ),
        # Traefik of the stack answers before it redirects; a private registry has the image of what answers.
        (
            {"platform_components": ["mlflow", "traefik"], "platform_image_pull_secrets": ["a", "b.c"]},
            {
                "ingress": {
                    "ingressClassName": "traefik",
                    "ingressTemplate": {
                        "metadata": {"annotations": {"traefik.ingress.kubernetes.io/router.priority": "2000000000"}}
                    },
                    "podTemplate": {"spec": {"imagePullSecrets": [{"name": "a"}, {"name": "b.c"}]}},
                    "serviceType": "ClusterIP",
                }
            },
        ),
    ],
)
def test_challenges_come_by_the_edge(options, expected):
    acme = {
        "mlflow_url": "https://m.example.com",
        "platform_tls": "cert_manager",
        "platform_tls_acme": {"email": "a@b.c"},
    }
    made = {each["kind"]: each for each in manifests("mlflow", acme | options)}
    assert made["Issuer"]["spec"]["acme"]["solvers"] == [{"http01": expected}]


def test_the_redirect_of_traefik_lets_challenges_pass():
    priority = "--entrypoints.web.http.redirections.entrypoint.priority="
    [redirect] = [
        int(each.removeprefix(priority))
        for each in get_role("traefik").value("__traefik_arguments", {"mlflow_url": "https://m.example.com"})
        if each.startswith(priority)
    ]
    presets = get_role("traefik").value("platform_ingress_presets.traefik")
    assert redirect < int(presets["acme"]["traefik.ingress.kubernetes.io/router.priority"])
    # That of a route is by default as long as its rule.
    assert redirect > 10000
    assert "priority" not in str(presets["https"])


def test_a_private_acme_server_is_verified(tmp_path):
    file = tmp_path / "ca.crt"
    file.write_text("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    acme = {"email": "a@b.c", "server": "https://acme.example.com/dir", "ingress_class": "x", "ca_path": str(file)}
    for given, bundle in ((acme, file.read_text().strip()), (acme | {"ca_path": ""}, None)):
        options = {"platform_tls": "cert_manager", "platform_tls_acme": given, "keycloak_url": "https://k.example.com"}
        [spec] = [each["spec"] for each in manifests("keycloak", options) if each["kind"] == "Issuer"]
        assert spec["acme"]["server"] == "https://acme.example.com/dir"
        found = spec["acme"].get("caBundle")
        assert (base64.b64decode(found).decode().strip() if found else None) == bundle


def certificates(role, options):
    """The Certificates of a role by their names, and its Issuer."""
    made = [each for each in manifests(role, options) if each["apiVersion"] == "cert-manager.io/v1"]
    issuers = [each for each in made if each["kind"] == "Issuer"]
    return {each["metadata"]["name"]: each for each in made if each["kind"] == "Certificate"}, issuers


@pytest.mark.parametrize("role", ["mlflow", "keycloak"])
def test_cert_manager_issues_by_the_own_ca(role):
    """The Secret of the CA is where its Issuer is."""
    options = {"platform_tls": "cert_manager", "platform_tls_issuer": {"own_ca": True}, "platform_internal_tls": False}
    options |= {"mlflow_url": "https://m.example.com", "keycloak_url": "https://k.example.com"}
    made = {each["kind"]: each for each in manifests(role, options) if each["apiVersion"] == "cert-manager.io/v1"}
    assert made["Issuer"]["spec"] == {"ca": {"secretName": "mlflow-ca"}}
    assert made["Issuer"]["metadata"]["name"] == made["Certificate"]["spec"]["issuerRef"]["name"] == "mlflow-ca"
    assert made["Certificate"]["spec"]["duration"] == "2160h"
    assert made["Issuer"]["metadata"]["namespace"] in home_of_the_ca(role, options)
    assert issued(role, options)[f"{role}-tls"]["issuer"] == "mlflow-ca"


def home_of_the_ca(role, options):
    """The namespaces in which a role needs the Secret of the CA."""
    secrets = get_role(role).registered(variants.BASE.get(role, {}) | options)["secrets"]
    return {namespace for each in secrets if each["name"] == "mlflow-ca" for namespace in each["namespaces"]}


OWN_ISSUER = {"platform_tls": "cert_manager", "platform_tls_issuer": {"own_ca": True}}
INTERNAL = {
    "postgres": {"postgres-server-tls", "postgres-superuser-tls"},
    "minio": {"minio-server-tls"},
    "keycloak": {"keycloak-server-tls"},
    "mlflow": {"mlflow-server-tls"},
}


@pytest.mark.parametrize("role", INTERNAL)
def test_cert_manager_makes_certificates_between_components_by_the_own_ca(role):
    """What module credentials would issue, and the pods are the same."""
    before = issued(role)
    found, [issuer] = certificates(role, OWN_ISSUER)
    assert found.keys() == INTERNAL[role]
    assert issuer["spec"] == {"ca": {"secretName": "mlflow-ca"}}
    for name, each in found.items():
        spec = each["spec"]
        assert spec["secretName"] == name
        assert spec["issuerRef"]["name"] == issuer["metadata"]["name"]
        assert spec.get("dnsNames", []) == before[name]["hosts"]
        assert spec["commonName"] == before[name]["common_name"]
        assert spec["usages"][1:] == (["client auth"] if before[name]["client"] else ["server auth"])
    assert {name: each.get("issuer") for name, each in issued(role, OWN_ISSUER).items()} == {
        **dict.fromkeys(found, "mlflow-ca"),
        "mlflow-ca": None,
    }
    assert home_of_the_ca(role, OWN_ISSUER) == {"mlflow", role}
    assert workloads(role) == workloads(role, OWN_ISSUER)


@pytest.mark.parametrize("role", INTERNAL)
@pytest.mark.parametrize(
    "options",
    [
        {"platform_tls": "own_ca"},
        {"platform_tls": "cert_manager", "platform_tls_issuer": {"kind": "ClusterIssuer", "name": "company"}},
        {"platform_tls": "cert_manager", "platform_tls_acme": {"email": "a@b.c", "ingress_class": "traefik"}},
        OWN_ISSUER | {"platform_internal_tls": False},
    ],
)
def test_others_make_no_certificates_between_components(role, options):
    assert certificates(role, options) == ({}, [])
    found = issued(role, options)
    assert not [each for each in found.values() if "issuer" in each]
    assert (found.keys() >= INTERNAL[role]) is options.get("platform_internal_tls", True)
    assert home_of_the_ca(role, options) <= {"mlflow"}


def test_cert_manager_looks_after_minio_where_the_edge_leads_to_it():
    """Its Issuer by the stack's CA is there too, with the CA's Secret."""
    options = {
        "platform_components": ["minio", "mlflow", "keycloak", "cert_manager"],
        "platform_tls": "cert_manager",
        "platform_tls_issuer": {"own_ca": True},
        "platform_internal_tls": False,
        "platform_edge": "ingress",
        "mlflow_url": "https://m.example.com",
        "keycloak_url": "https://k.example.com",
        "mlflow_artifacts_direct": True,
        "mlflow_s3_public_url": "https://s3.example.com",
    }
    for url, places in (("https://s3.example.com", ["mlflow", "keycloak", "minio"]), ("", ["mlflow", "keycloak"])):
        given = options | {"mlflow_s3_public_url": url}
        assert get_role("cert_manager").value("__cert_manager_watched", given) == places
        assert set().union(*(home_of_the_ca(role, given) for role in ("mlflow", "keycloak", "minio"))) == set(places)


def test_cert_manager_looks_after_all_that_have_certificates():
    role = get_role("cert_manager")
    options = OWN_ISSUER | {"platform_components": ["postgres", "minio", "keycloak", "mlflow", "cert_manager"]}
    assert role.value("__cert_manager_watched", options) == ["mlflow", "keycloak", "postgres", "minio"]
    external = options | {"platform_components": ["mlflow", "cert_manager"]}
    assert role.value("__cert_manager_watched", external) == ["mlflow"]
    by_another = options | {"platform_tls_issuer": {"kind": "Issuer", "name": "company"}}
    assert role.value("__cert_manager_watched", by_another) == ["mlflow", "keycloak"]


def test_what_cert_manager_no_longer_looks_after_is_left_to_nobody():
    """Its pods there, and their rights."""
    there = [f"cert-manager/cert-manager-{each}" for each in ("mlflow", "keycloak", "postgres")]
    cluster = rendering.CLUSTER | {"deployments": [*there, "traefik/traefik", "mlflow/cert-manager-x"]}
    options = {"platform_components": ["postgres", "mlflow", "keycloak", "cert_manager"], "platform_cluster": cluster}
    gone = get_role("cert_manager").registered(options)["switched_off"]
    name = "mlops-mlflow-cert-manager"
    assert [(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in gone] == [
        ("Deployment", "cert-manager", "cert-manager-postgres"),
        ("ServiceAccount", "cert-manager", "cert-manager-postgres"),
        ("RoleBinding", "postgres", name),
        ("Role", "postgres", name),
    ]
    assert get_role("cert_manager").registered(options | OWN_ISSUER)["switched_off"] == []


def test_cert_manager_has_rights_in_its_namespaces_only():
    options = {"cert_manager_namespaces": ["team"], "platform_components": ["mlflow", "keycloak", "cert_manager"]}
    made = get_role("cert_manager").manifests(options)
    roles = [each for each in made if "Role" in each["kind"]]
    assert {each["kind"] for each in roles} == {"Role", "RoleBinding"}
    assert {each["metadata"]["namespace"] for each in roles} == {"mlflow", "keycloak", "team"}
    assert "*" not in json.dumps([each.get("rules") for each in roles])
    for each in roles:
        if each["kind"] == "RoleBinding":
            home = each["metadata"]["namespace"]
            assert [one["name"] for one in each["subjects"]] == [f"cert-manager-{home}"]
    for each in made:
        if each["kind"] == "Deployment":
            [container] = each["spec"]["template"]["spec"]["containers"]
            home = each["metadata"]["name"].removeprefix("cert-manager-")
            assert f"--namespace={home}" in container["args"]
            assert each["spec"]["template"]["spec"]["serviceAccountName"] == f"cert-manager-{home}"
