"""The server's environment for each login mode, and for other identity providers than Keycloak."""

import pytest

from tests.lib import rendering

BASE = {"mlflow_image": "localhost/mlflow:1"}


@pytest.fixture(scope="module")
def role():
    return rendering.Role("mlflow")


def environment(role, **options):
    """The variables of the server that have a value, and the names of the Secrets that its pods mount."""
    spec = role.render("mlflow.deployment.yaml.j2", BASE | options)[0]["spec"]["template"]["spec"]
    variables = {each["name"]: each["value"] for each in spec["containers"][0]["env"] if "value" in each}
    mounted = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
    secrets = {each["secret"]["secretName"]: mounted[each["name"]] for each in spec["volumes"] if "secret" in each}
    return variables, secrets


@pytest.mark.parametrize(
    ("options", "redirect", "permissions"),
    [
        pytest.param({}, "false", "false", id="default"),
        pytest.param({"mlflow_oidc_automatic_redirect": True}, "true", "false", id="at once"),
        pytest.param({"mlflow_oidc_landing_page": "permissions"}, "false", "true", id="permissions"),
        pytest.param({"mlflow_oidc_landing_page": "experiments"}, "false", "false", id="experiments"),
    ],
)
def test_where_a_login_begins_and_ends(role, options, redirect, permissions):
    variables, _unused = environment(role, **options)
    assert variables["AUTOMATIC_LOGIN_REDIRECT"] == redirect
    assert variables["DEFAULT_LANDING_PAGE_IS_PERMISSIONS"] == permissions


def test_another_provider_with_a_private_ca(role):
    """As docs/login-oidc.md has it."""
    variables, secrets = environment(
        role,
        platform_components=["sealed_secrets", "postgres", "minio", "mlflow"],
        mlflow_oidc_discovery_url="https://login.example.com/.well-known/openid-configuration",
        mlflow_oidc_issuer="https://login.example.com",
        mlflow_oidc_client_id="company-mlflow",
        mlflow_oidc_audience="company-api",
        mlflow_oidc_secret="company-login",
        mlflow_oidc_ca_secret="company-ca",
        mlflow_oidc_provider_name="Log in with Example",
        mlflow_oidc_username_claim="upn",
        mlflow_oidc_groups_claim="roles",
        mlflow_oidc_allowed_groups=["data-science", "analysts"],
        mlflow_admin_group="chiefs",
    )
    wanted = {
        "OIDC_DISCOVERY_URL": "https://login.example.com/.well-known/openid-configuration",
        "OIDC_ISSUER": "https://login.example.com",
        "OIDC_CLIENT_ID": "company-mlflow",
        "OIDC_AUDIENCE": "company-api",
        "OIDC_PROVIDER_DISPLAY_NAME": "Log in with Example",
        "OIDC_USERNAME_FIELD": "upn",
        "OIDC_GROUPS_ATTRIBUTE": "roles",
        "OIDC_GROUP_NAME": "data-science,analysts",
        "OIDC_ADMIN_GROUP_NAME": "chiefs",
        "SSL_CERT_FILE": "/etc/mlflow/oidc-ca/ca.crt",
    }
    assert {name: variables.get(name) for name in wanted} == wanted
    assert secrets["company-ca"] == "/etc/mlflow/oidc-ca"


def test_no_authority_is_added_unasked(role):
    variables, secrets = environment(role, platform_internal_tls=False)
    assert "SSL_CERT_FILE" not in variables
    assert "/etc/mlflow/oidc-ca" not in secrets.values()


def test_groups_of_the_own_keycloak_count_at_the_top_level_only(role):
    variables, _unused = environment(role, mlflow_oidc_allowed_groups=["analysts"], keycloak_groups=["team a"])
    assert variables["MLOPS_TOP_LEVEL_GROUPS"].split("/") == ["mlflow-admins", "mlflow-users", "analysts", "team a"]
    assert variables["MLOPS_VERIFIED_EMAIL"] == "true"
    client = rendering.Role("keycloak", beside=["mlflow"]).value("__keycloak_client")
    assert [each["config"]["full.path"] for each in client["mappers"] if each["name"] == "groups"] == [True]


def test_groups_of_another_provider_are_taken_as_they_are(role):
    variables, _unused = environment(role, platform_components=["postgres", "minio", "mlflow"])
    assert not {"MLOPS_TOP_LEVEL_GROUPS", "MLOPS_VERIFIED_EMAIL"} & set(variables)


@pytest.mark.parametrize("own", [True, False])
def test_oauth2_proxy_admits_groups_of_the_own_keycloak_by_their_paths(role, own):
    components = ["postgres", "minio", "mlflow"] + (["keycloak"] if own else [])
    groups = role.value("__mlflow_oauth2_proxy_groups", BASE | {"platform_components": components})
    assert groups == ["mlflow-users", "mlflow-admins"] + (["/mlflow-users", "/mlflow-admins"] if own else [])


def test_the_realm_has_a_password_policy_unless_the_inventory_sets_another():
    keycloak = rendering.Role("keycloak", beside=["mlflow"])
    settings = keycloak.value("__keycloak_settings")
    assert settings["passwordPolicy"] == "length(12) and notUsername and notEmail and passwordHistory(3)"
    former = {"keycloak_realm_settings": {"passwordPolicy": "length(20)"}}
    assert keycloak.value("__keycloak_settings", former)["passwordPolicy"] == "length(20)"
    assert keycloak.value("__keycloak_settings", {"keycloak_password_policy": ""})["passwordPolicy"] == ""


ENCRYPTION = {
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "gateway-passphrase",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "webhook-key",
}


def references(pod):
    """The Secret and key of each variable of a pod's container that comes from a Secret."""
    variables = [each for each in pod["containers"][0]["env"] if "secretKeyRef" in each.get("valueFrom", {})]
    return {each["name"]: tuple(each["valueFrom"]["secretKeyRef"].values()) for each in variables}


@pytest.mark.parametrize("mode", ["oidc", "basic", "oauth2_proxy", "none"])
def test_server_and_migration_have_the_same_encryption_keys_in_every_mode(role, mode):
    options = BASE | {
        "mlflow_auth": mode,
        "platform_fingerprints": {"mlflow/mlflow-encryption-keys": "hash-of-the-keys"},
    }
    for name in ("mlflow.deployment.yaml.j2", "mlflow-migrate.job.yaml.j2"):
        template = role.render(name, options)[0]["spec"]["template"]
        found = references(template["spec"])
        assert {name: found.get(name) for name in ENCRYPTION} == {
            name: ("mlflow-encryption-keys", key) for name, key in ENCRYPTION.items()
        }
        assert "hash-of-the-keys" in template["metadata"]["annotations"]["mlops.mlflow/credentials"]
    made = {each["name"]: each.get("keys", {}) for each in role.value("mlflow_component.secrets", options)}
    assert {key: each["generate"] for key, each in made["mlflow-encryption-keys"].items()} == {
        "gateway-passphrase": "password",
        "webhook-key": "fernet",
    }


def test_a_passphrase_from_another_secret_takes_precedence(role):
    own = {"secretKeyRef": {"name": "company-keys", "key": "passphrase"}}
    options = BASE | {"mlflow_extra_env": [{"name": "MLFLOW_CRYPTO_KEK_PASSPHRASE", "valueFrom": own}]}
    for template in ("mlflow.deployment.yaml.j2", "mlflow-migrate.job.yaml.j2"):
        pod = role.render(template, options)[0]["spec"]["template"]["spec"]
        assert [each for each in pod["containers"][0]["env"] if each["name"] == "MLFLOW_CRYPTO_KEK_PASSPHRASE"] == [
            {"name": "MLFLOW_CRYPTO_KEK_PASSPHRASE", "valueFrom": own}
        ]


REVIEWER = "mlflow-token-reviewer-mlflow"


def test_reviewing_tokens_needs_a_right_and_only_with_namespaces(role):
    assert role.render("mlflow.rbac.yaml.j2", BASE) == []
    allowed = {"mlflow_kubernetes_namespaces": ["team-a"]}
    right, binding = role.render("mlflow.rbac.yaml.j2", BASE | allowed)
    assert right["rules"] == [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    ]
    assert {right["metadata"]["name"], binding["metadata"]["name"], binding["roleRef"]["name"]} == {REVIEWER}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "mlflow", "namespace": "mlflow"}]
    assert role.render("mlflow.rbac.yaml.j2", BASE | allowed | {"mlflow_auth": "basic"}) == []


def test_lifetime_of_service_accounts_tokens(role):
    allowed = {"mlflow_kubernetes_namespaces": ["team-a"]}
    assert environment(role, **allowed)[0]["MLOPS_KUBERNETES_TOKEN_LIFETIME"] == "86400"
    variables, _unused = environment(role, **allowed, mlflow_kubernetes_token_max_lifetime=3600)
    assert variables["MLOPS_KUBERNETES_TOKEN_LIFETIME"] == "3600"
    assert "MLOPS_KUBERNETES_TOKEN_LIFETIME" not in environment(role)[0]


@pytest.mark.parametrize("mode", ["oidc", "basic", "none"])
def test_custom_artifact_locations_are_allowed_by_a_variable(role, mode):
    for allowed, text in ((False, "false"), (True, "true")):
        variables, _unused = environment(role, mlflow_auth=mode, mlflow_custom_artifact_locations=allowed)
        assert variables["MLOPS_ARTIFACT_LOCATIONS"] == text


@pytest.mark.parametrize(
    ("given", "text"), [("off", "off"), (False, "off"), ("stdout", "stdout"), ("/var/log/mlflow", "/var/log/mlflow")]
)
def test_audit_log(role, given, text):
    """Without quotes, YAML takes off for false."""
    options = {"mlflow_audit_log": given, "mlflow_audit_claim": "audit", "platform_log_format": "json"}
    variables, _unused = environment(role, **options)
    assert (variables["MLOPS_AUDIT_LOG"], variables["MLOPS_LOG_FORMAT"]) == (text, "json")
    spec = role.render("mlflow.deployment.yaml.j2", BASE | options)[0]["spec"]["template"]["spec"]
    claims = {
        each["name"]: each["persistentVolumeClaim"]["claimName"]
        for each in spec["volumes"]
        if "persistentVolumeClaim" in each
    }
    mounts = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
    assert claims == ({"audit": "audit"} if text.startswith("/") else {})
    assert mounts.get("audit") == (text if text.startswith("/") else None)


def test_spans_are_sent_by_a_variable(role):
    assert not [name for name in environment(role)[0] if name.startswith("MLOPS_OTLP")]
    # Secrets without a collector are no reason to look for them.
    secrets = {"mlflow_otlp_ca_secret": "collector-ca", "mlflow_otlp_headers_secret": "collector-headers"}
    assert role.value("__mlflow_otlp_dependencies + __mlflow_otlp_environment", BASE | secrets) == []
    options = secrets | {"mlflow_otlp_endpoint": "https://collector.example.com:4318", "mlflow_otlp_sample_ratio": 0.25}
    spec = role.render("mlflow.deployment.yaml.j2", BASE | options)[0]["spec"]["template"]["spec"]
    found = {each["name"]: each for each in spec["containers"][0]["env"] if each["name"].startswith("MLOPS_OTLP")}
    assert found.pop("MLOPS_OTLP_HEADERS")["valueFrom"] == {
        "secretKeyRef": {"name": "collector-headers", "key": "headers"}
    }
    file = found.pop("MLOPS_OTLP_CA_FILE")["value"]
    assert {name: each["value"] for name, each in found.items()} == {
        "MLOPS_OTLP_ENDPOINT": "https://collector.example.com:4318",
        "MLOPS_OTLP_SAMPLE_RATIO": "0.25",
        "MLOPS_OTLP_NAMESPACE": "mlflow",
    }
    volumes = {each["name"]: each.get("secret", {}).get("secretName") for each in spec["volumes"]}
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if file.startswith(each["mountPath"] + "/"))
    assert volumes[mount["name"]] == "collector-ca"
