"""The options that templates decide by, and values that make a difference, which are rendered in combination."""

# A stack with backups, and what these need.
BACKUP = {
    "platform_components": ["sealed_secrets", "postgres", "minio", "keycloak", "mlflow", "backup"],
    "backup_s3_endpoint": "https://s3.example.com",
    "backup_s3_bucket": "backups",
    "platform_credentials": {"mlflow-backup-encryption": {"passphrase": {"env": "BACKUP_PASSPHRASE"}}},
    "postgres_image": "localhost/mlops-mlflow/postgres:1",
}
# What has to be given, and what a template only passes on: values that need care.
BASE = {
    "minio": {"minio_image": "localhost/minio:1"},
    "mlflow": {"mlflow_image": "localhost/mlflow:1"},
    "backup": BACKUP | {f"{name}_image": f"localhost/{name}:1" for name in ("mlflow", "minio", "keycloak")},
}

# What stacks do not have together: a preflight refuses it.
REFUSED = [
    {"platform_components": BACKUP["platform_components"], "platform_internal_tls": False},
    {"backup_method": "pgbackrest", "mlflow_db_host": "db.example.com"},
]

# Templates that tasks of a backup and of a restore render, beside what a role converges, and what these tasks know.
RESTORED = BACKUP | {
    "backup_restored": {
        "operation": "1a2b3c4d",
        "timeout": 3600,
        "needed": 268435456,
        "target": {"type": "name", "target": "mlflow-1", "timeline": 2, "set": "20261130-020000F"},
    }
}
# Of another major version of PostgreSQL.
MAJOR = {
    "postgres_major": {"image": "docker.io/library/postgres:15", "operation": "1764547200"},
    "__postgres_back": False,
}
BY_TASKS = {
    "postgres": {
        "postgres-restore.configmap.yaml.j2": RESTORED,
        "postgres-restore.job.yaml.j2": RESTORED,
        "postgres-upgrade.configmap.yaml.j2": {},
        "postgres-upgrade.job.yaml.j2": MAJOR,
    },
    "backup": {
        "backup-task.job.yaml.j2": {
            "__backup_task": {
                "name": "look",
                "account": "restore",
                "steps": [
                    {"name": "look", "kind": "postgres", "command": ["sh", "/etc/backup/look.sh"]},
                    {"name": "secrets", "kind": "python", "command": ["python"], "token": True, "stack": True},
                ],
            }
        },
        "restore.rbac.yaml.j2": {},
    },
}

# Passed on through a variable that others decide with; a value more changes no branch.
UNDECIDED = set()

# What flows depend on beside a role's own variables.
FLOWS = {
    "platform_edge_namespaces": [[], ["traefik"]],
    "platform_monitoring_namespaces": [[], ["monitoring"]],
    "platform_pod_networks": [[], ["10.244.0.0/16", "fd00:10::/48"]],
    "platform_api_server_networks": [[], ["192.0.2.1/32"]],
    "platform_network_policy_extra": [
        [],
        [
            {
                "component": component,
                "name": "more",
                "why": 'it\'s "needed"',
                "labels": {"a": "b"},
                "to": [{"cidr": "192.0.2.0/24"}, {"namespace": "other", "labels": {"c": "d"}}],
                "ports": ["443", "53/UDP"],
            }
            for component in ("sealed_secrets", "postgres", "minio", "keycloak", "mlflow")
        ],
    ],
    "mlflow_client_namespaces": [[], ["team-c"]],
    "mlflow_clients": [[], [{"name": "ci", "namespaces": ["team-d"]}, {"name": "laptop"}]],
}
# What decides the edge, for the roles that have URLs.
EDGE = {
    "platform_edge": ["none", "ingress", "gateway"],
    "platform_gateway": [
        {"name": "public", "namespace": "edge"},
        {"name": "public", "namespace": "edge", "section_name": "https", "http_section_name": "http"},
    ],
    "platform_ingress_annotations": [{}, {"example.com/odd": 'it\'s "quoted"'}],
    "platform_ingress_class": ["", "traefik"],
    "platform_ingress_preset": ["none", "nginx", "traefik", "haproxy"],
    "platform_tls": ["none", "secret", "own_ca", "cert_manager"],
    "platform_tls_issuer": [{}, {"kind": "Issuer", "name": "company"}, {"own_ca": True}],
    "platform_tls_acme": [
        {"email": "a@example.com", "ingress_class": "traefik"},
        {
            "email": "a@example.com",
            "ca_path": __file__,
            "solvers": [{"dns01": {"cloudflare": {"email": 'it\'s "odd"'}}}],
        },
    ],
    "platform_internal_tls": [True, False],
    "platform_edge_backend_tls": [False, True],
}

VARIANTS = {
    "sealed_secrets": {
        "platform_image_pull_secrets": [[], ["registry", "other"]],
        "sealed_secrets_key_renew_period": ["720h", "0"],
        "sealed_secrets_log_level": ["INFO", "ERROR"],
    },
    "postgres": {
        "platform_internal_tls": [True, False],
        "platform_tls": ["none", "cert_manager"],
        "platform_tls_issuer": [{"kind": "Issuer", "name": "company"}, {"own_ca": True}],
        "platform_components": [
            ["postgres", "mlflow"],
            ["postgres", "keycloak", "mlflow"],
            BACKUP["platform_components"],
        ],
        "backup_s3_endpoint": [BACKUP["backup_s3_endpoint"]],
        "backup_s3_ca_secret": ["company-ca"],
        "mlflow_db_host": ["postgres.postgres.svc", "db.example.com"],
        "platform_image_pull_secrets": [[], ["registry"]],
        "postgres_extra_roles": [
            [],
            [{"name": "grafana"}, {"name": "odd_name-1", "databases": ["a", "b-c"], "namespaces": ["elsewhere"]}],
        ],
        "postgres_max_connections": [200, 20],
        "postgres_memory": ["1Gi", "256Mi"],
        "postgres_storage_size": ["10Gi", "1500M"],
        "postgres_settings": [{}, {"log_min_duration_statement": 250, "search_path": 'it\'s, "quoted"'}],
        "postgres_stat_statements": [False, True],
        "postgres_storage_class": ["", "fast"],
    },
    "minio": EDGE
    | {
        "mlflow_artifacts_direct": [False, True],
        "mlflow_s3_public_url": ["https://s3.example.com"],
        "minio_service_annotations": [{}, {"example.com/odd": 'it\'s "quoted"'}],
        "platform_image_pull_secrets": [[], ["registry"]],
        "minio_console": [False, True],
        "minio_extra_buckets": [[], [{"name": "backups.2026", "versioning": True, "namespaces": ["elsewhere"]}]],
        "minio_memory": ["1Gi", "512Mi"],
        "minio_prometheus_auth": ["jwt", "public"],
        "minio_replicas": [1, 4],
        "minio_settings": [{}, {"MINIO_API_REQUESTS_MAX": 100, "MINIO_SITE_NAME": 'it\'s "here"'}],
        "minio_stale_uploads_expiry": ["24h", "90m"],
        "minio_storage_class": ["", "fast"],
        "minio_versioning": [False, True],
    },
    "keycloak": EDGE
    | {
        "keycloak_admin_url": ["", "https://admin.example.com", "https://login.example.com"],
        "keycloak_url": ["http://localhost:30880", "https://login.example.com", "https://ai.example.com/auth"],
        "keycloak_db_host": ["postgres.postgres.svc", "db.example.com"],
        "keycloak_db_pool_size": [20, 5],
        "platform_image_pull_secrets": [[], ["registry"]],
        "keycloak_extra_env": [{}, {"KC_LOG_LEVEL": "info", "JAVA_OPTS_APPEND": "-Dx='a b' -Dy=\"{c}\""}],
        "keycloak_memory": ["1Gi", "1500M"],
        "keycloak_optimized": [False, True],
        "keycloak_proxy_headers": ["", "xforwarded"],
        "keycloak_proxy_trusted_addresses": [[], ["10.0.0.0/8", "192.168.1.1"]],
        "keycloak_replicas": [1, 3],
        "keycloak_service_accounts": [
            [],
            [{"name": "ci", "namespaces": ["elsewhere"]}, {"name": "etl", "secret": "etl-login"}],
        ],
        "keycloak_service_type": ["NodePort", "ClusterIP", "LoadBalancer"],
        "keycloak_service_annotations": [{}, {"example.com/load-balancer": "internal"}],
    },
    "mlflow": EDGE
    | {
        "platform_monitoring": ["annotations", "operator"],
        "platform_monitoring_labels": [{"release": "kube-prometheus-stack"}],
        "platform_ca_namespaces": [[], ["elsewhere"]],
        "mlflow_oidc_discovery_url": [
            f"https://{host}/realms/mlflow/.well-known/openid-configuration"
            for host in ("keycloak-internal.keycloak.svc:8443", "login.example.com")
        ],
        "platform_image_pull_secrets": [[], ["registry"]],
        "mlflow_auth": ["oidc", "basic", "oauth2_proxy", "none"],
        "mlflow_kubernetes_namespaces": [[], ["team-a", "team-b"]],
        "mlflow_oidc_ca_secret": ["", "company-ca"],
        "mlflow_oauth2_proxy_api_service_type": ["ClusterIP", "NodePort"],
        "mlflow_oauth2_proxy_provider": ["oidc", "github", "google"],
        "mlflow_artifacts_direct": [False, True],
        "mlflow_audit_log": ["off", "/var/log/mlflow"],
        "mlflow_audit_claim": ["audit"],
        "mlflow_otlp_endpoint": ["", "https://collector.example.com:4318"],
        "mlflow_otlp_ca_secret": ["", "collector-ca"],
        "mlflow_otlp_headers_secret": ["", "collector-headers"],
        "mlflow_allowed_hosts": [[], ["mlflow.example.com", "*.example.org"]],
        "mlflow_cors_allowed_origins": [[], ["https://notebooks.example.com"]],
        "mlflow_db_ca_secret": ["", "company-ca"],
        "mlflow_db_host": ["postgres.postgres.svc", "db.example.com"],
        "mlflow_gc_older_than": ["", "30d"],
        "mlflow_traces_archive_older_than": ["", "30d"],
        "mlflow_traces_delete_older_than": ["", "365d"],
        "mlflow_extra_env": [[], [{"name": "MLFLOW_LOGGING_LEVEL", "value": 'it\'s "DEBUG"'}]],
        "mlflow_s3_endpoint": ["https://minio.minio.svc:9000", ""],
        "mlflow_service_type": ["NodePort", "ClusterIP", "LoadBalancer"],
        "mlflow_service_annotations": [{}, {"example.com/load-balancer": "internal"}],
        "mlflow_trusted_proxies": [[], ["10.0.0.0/8"]],
        "mlflow_api_url": ["", "https://api.example.com"],
        "mlflow_url": ["http://localhost:30800", "https://mlflow.example.com", "https://ai.example.com/mlflow"],
        "mlflow_workers": [1, 4],
        "mlflow_autoscaling": [
            {},
            {"min": 2, "max": 5},
            {
                "min": 1,
                "max": 3,
                "cpu": 60,
                "metrics": [
                    {
                        "type": "External",
                        "external": {
                            "metric": {"name": 'it\'s "busy"'},
                            "target": {"type": "AverageValue", "averageValue": "5"},
                        },
                    }
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
            },
        ],
    },
    "traefik": {
        "platform_monitoring": ["annotations", "operator"],
        "platform_components": [["mlflow", "traefik"], ["keycloak", "mlflow", "traefik"]],
        "platform_image_pull_secrets": [[], ["registry"]],
        "mlflow_url": ["http://localhost:30800", "https://mlflow.example.com:8443"],
        "platform_edge": ["none", "ingress"],
        "mlflow_artifacts_direct": [False, True],
        "mlflow_s3_public_url": ["https://s3.example.com"],
        "platform_gateway": [{}, {"name": "public", "namespace": "edge"}],
        "traefik_gateway_api": [False, True],
        "traefik_default_class": [False, True],
        "traefik_hsts_seconds": [0, 600],
        "traefik_namespaces": [[], ["team-a"]],
        "traefik_service_annotations": [{}, {"example.com/load-balancer": "internal"}],
        "traefik_service_type": ["LoadBalancer", "NodePort", "ClusterIP"],
        "traefik_trusted_proxies": [[], ["10.0.0.0/8", "192.0.2.1"]],
    },
    "cert_manager": {
        "platform_monitoring": ["annotations", "operator"],
        "platform_components": [["mlflow", "cert_manager"], ["keycloak", "mlflow", "cert_manager"]],
        "platform_image_pull_secrets": [[], ["registry"]],
        "cert_manager_gateway_api": [False, True],
        "cert_manager_namespaces": [[], ["team-a"]],
        "platform_tls": ["none", "cert_manager"],
        "platform_tls_issuer": [{}, {"kind": "Issuer", "name": "company"}, {"own_ca": True}],
        "platform_tls_acme": [
            {"email": "a@example.com", "ingress_class": "traefik"},
            {"email": "a@example.com", "server": "https://acme.pki.svc:14000/dir", "solvers": [{"dns01": {}}]},
        ],
    },
    "backup": {
        "platform_components": [BACKUP["platform_components"], ["postgres", "minio", "mlflow", "backup"]],
        "platform_image_pull_secrets": [[], ["registry"]],
        "backup_s3_endpoint": ["https://s3.example.com", "https://minio.elsewhere.svc:9000"],
        "backup_s3_ca_secret": ["", "company-ca"],
        "backup_suspend": [False, True],
        "backup_drill_login": [True, False],
        "backup_retention_unit": ["backups", "days"],
        "backup_method": ["pgbackrest", "pg_dump"],
        "backup_dump_size": ["10Gi", "64Gi"],
        "mlflow_db_ca_secret": ["", "company-ca"],
        "mlflow_db_host": ["postgres.postgres.svc", "db.example.com"],
        "mlflow_s3_endpoint": ["https://minio.minio.svc:9000", "https://s3.example.com", ""],
        "platform_tls": ["none", "own_ca"],
    },
}
