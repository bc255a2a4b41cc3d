"""What an API server would say of manifests."""

import json
import uuid

import kubernetes


class Server:
    """The API server, asked what it would say: nothing is written but a namespace of the tests' own."""

    def __init__(self, kubeconfig):
        self.api = kubernetes.config.new_client_from_config(config_file=kubeconfig)
        self.core = kubernetes.client.CoreV1Api(self.api)
        self.namespace = f"dry-run-{uuid.uuid4().hex[:8]}"
        self.kinds = {}
        self.groups = set()

    def __enter__(self):
        labels = {"pod-security.kubernetes.io/warn": "restricted"}
        body = {"metadata": {"name": self.namespace, "labels": labels}}
        self.core.create_namespace(body)
        return self

    def __exit__(self, *_unused):
        self.core.delete_namespace(self.namespace)

    def request(self, method, path, body=None, **query):
        """The status, the warnings and the body that the API server answers with."""
        url = self.api.configuration.host + path
        answer = self.api.rest_client.pool_manager.request(
            method,
            url + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""),
            body=json.dumps(body) if body is not None else None,
            headers={
                **self.api.default_headers,
                **({"Content-Type": "application/apply-patch+yaml"} if body is not None else {}),
            },
        )
        return answer.status, answer.headers.getlist("Warning"), json.loads(answer.data)

    def knows(self, document):
        """Whether the API server has the group of this object, which a CRD may define."""
        if not self.groups:
            self.groups = {each["name"] for each in self.request("GET", "/apis")[2]["groups"]}
        group, slash, _version = document["apiVersion"].partition("/")
        return not slash or group in self.groups

    def path(self, document, namespace):
        """Where an object of this kind is written to."""
        version = document["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if version not in self.kinds:
            status, _unused, found = self.request("GET", root)
            assert status == 200, f"the API server knows no {version}"
            self.kinds[version] = {each["kind"]: each for each in found["resources"] if "/" not in each["name"]}
        kind = self.kinds[version][document["kind"]]
        return root + (f"/namespaces/{namespace}" if kind["namespaced"] else "") + f"/{kind['name']}"

    def apply(self, document):
        """Applies an object server side, as a try. Returns the refusal or the warnings; nothing if all is well."""
        tried = json.loads(json.dumps(document))
        if "namespace" in tried["metadata"]:
            tried["metadata"]["namespace"] = self.namespace
        status, warnings, answer = self.request(
            "PATCH",
            f"{self.path(tried, self.namespace)}/{tried['metadata']['name']}",
            tried,
            fieldManager="mlops.mlflow-tests",
            fieldValidation="Strict",
            dryRun="All",
            force="true",
        )
        return answer["message"] if status >= 300 else "; ".join(warnings)
