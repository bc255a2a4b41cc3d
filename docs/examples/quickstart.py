"""Finish the quickstart: create an access token of demo-admin, write the file to source, run the example.

Usage: python quickstart.py --directory build/quickstart

It can be run again at any time: a valid token is kept, and an example that has run is not run again. Passwords and
tokens are written to DIRECTORY/env (mode 0600) only. It needs `kubernetes` and `requests`; the example runs in a
virtual environment of its own.
"""

import argparse
import base64
import fcntl
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import urllib.parse
import venv

import access_token
import kubernetes
import requests

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
INVENTORY = HERE.parents[1] / "inventory" / "kind"
ADMIN = "demo-admin"
USER = "demo-user"
EXPERIMENT = "iris"
MODEL = "iris-classifier"
TIMEOUT = 60


class QuickstartError(Exception):
    """A failure; the message is one sentence for the user."""


def addresses(*inventories):
    """Return the public URLs of MLflow and Keycloak for the first stack of these inventories."""
    given = "{{ [mlflow_url | default('http://localhost:30800'), keycloak_url | default('http://localhost:30880')] }}"
    # ansible-inventory shows variables without resolving their templates, so this runs ansible.
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("ansible", path=path)
    if not program:
        raise QuickstartError("ansible, which reads the URLs, was not found: give --mlflow-url and --keycloak-url")
    done = subprocess.run(
        [
            program,
            "mlflow[0]",
            *(word for each in inventories for word in ("-i", each)),
            "-m",
            "ansible.builtin.debug",
            "-a",
            f"msg={given}",
        ],
        env=os.environ | {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    _unused, found, answer = done.stdout.partition("=>")
    if done.returncode != 0 or not found:
        names = " and ".join(map(str, inventories))
        raise QuickstartError(f"cannot read the URLs from the inventory {names}:\n{done.stdout}{done.stderr}")
    return json.loads(answer)["msg"]


def passwords_of(kubeconfig, namespace, names):
    """Return the first passwords of the quickstart's users, from the Secret keycloak-users."""
    client = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(config_file=str(kubeconfig)))
    try:
        data = client.read_namespaced_secret("keycloak-users", namespace).data or {}
    except kubernetes.client.ApiException as error:
        raise QuickstartError(f"cannot read the Secret {namespace}/keycloak-users: {error.reason}") from error
    missing = [name for name in names if name not in data]
    if missing:
        raise QuickstartError(f"the Secret keycloak-users of the namespace {namespace} has no key {', '.join(missing)}")
    return {name: base64.b64decode(data[name]).decode() for name in names}


def read_env(path):
    """Return the variables of a file that `write_env` wrote; empty if there is no such file."""
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def write_env(path, variables):
    """Write a file for `source` that only its owner can read; return whether it changed."""
    text = "# Source this file. It contains passwords.\n"
    text += "".join(f"export {name}={shlex.quote(str(value))}\n" for name, value in variables.items())
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
        return False
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)
    return True


def cache():
    """Return the cache directory, which all checkouts share."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mlops.mlflow"


def client_python(requirements=REQUIREMENTS):
    """Return the Python of a virtual environment with these requirements, by default the example's.

    It is in the cache, named by a hash of its content, so that checkouts share it.
    """
    content = f"{sys.version_info[:2]}{sys.executable}{requirements.read_text()}"
    place = cache() / f"client-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    python = place / "bin" / "python"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be making it
        if not (place / "ready").exists():
            names = ", ".join(line.partition("==")[0] for line in requirements.read_text().splitlines() if "==" in line)
            print(f"Installing a client ({names}), about a minute ...", flush=True)
            venv.EnvBuilder(clear=True, with_pip=True).create(place)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            # Older versions of pip take long to resolve the requirements.
            subprocess.run([*pip, "--upgrade", "pip>=24"], check=True)
            subprocess.run([*pip, "--requirement", requirements], check=True)
            (place / "ready").touch()
    return python


def example_ran(url, token):
    """Return whether the example's model is in the registry already."""
    answer = requests.get(
        f"{url}/api/2.0/mlflow/registered-models/get",
        params={"name": MODEL},
        auth=(ADMIN, token),
        timeout=TIMEOUT,
    )
    if answer.status_code == 404:
        return False
    if answer.status_code != 200:
        raise QuickstartError(f"MLflow answered {answer.status_code} to a request for the model {MODEL}")
    return bool(answer.json()["registered_model"].get("latest_versions"))


def run_example(url, token):
    """Run iris.py as demo-admin."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": token,
    }
    command = [client_python(), HERE / "iris.py", "--experiment", EXPERIMENT, "--model", MODEL]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise QuickstartError("the example failed, see above")


def show_refusal(url, password):
    """Check that demo-user, who has no permission, cannot read the experiment of demo-admin."""
    session = access_token.login(url, USER, password)
    asked = session.get(
        f"{url}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": EXPERIMENT}, timeout=TIMEOUT
    )
    session.get(f"{url}/logout", allow_redirects=False, timeout=TIMEOUT)
    if asked.status_code != 403:
        raise QuickstartError(f"{USER} must be refused the experiment {EXPERIMENT}, but got HTTP {asked.status_code}")
    print(f"{USER} requested the experiment {EXPERIMENT} and was refused (HTTP 403), as expected")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=pathlib.Path, required=True, help="directory with the kubeconfig")
    parser.add_argument("--inventory", type=pathlib.Path, default=INVENTORY, help="the stack's inventory, for the URLs")
    parser.add_argument("--mlflow-url", help="MLflow's public URL (default: from the inventory)")
    parser.add_argument("--keycloak-url", help="Keycloak's public URL (default: from the inventory)")
    parser.add_argument("--keycloak-namespace", default="keycloak", help="the namespace of the Secret keycloak-users")
    parser.add_argument("--skip-example", action="store_true", help="only write the file to source")
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    kubeconfig = directory / "kubeconfig"
    path = directory / "env"
    url = keycloak_url = ""
    try:
        if not kubeconfig.exists():
            raise QuickstartError(f"{kubeconfig} does not exist: create the cluster first")
        given = [arguments.mlflow_url, arguments.keycloak_url]
        found = given if all(given) else addresses(arguments.inventory)
        url, keycloak_url = ((one or other).rstrip("/") for one, other in zip(given, found, strict=True))
        passwords = passwords_of(kubeconfig, arguments.keycloak_namespace, [ADMIN, USER])
        token = read_env(path).get("MLFLOW_TRACKING_PASSWORD")
        if not token or not access_token.works(url, ADMIN, token):
            session = access_token.login(url, ADMIN, passwords[ADMIN])
            token = access_token.mint(url, session, name="quickstart", days=365)
            print(f"Logged in as {ADMIN} and created an access token")
        variables = {
            "KUBECONFIG": kubeconfig,
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": token,
            "KEYCLOAK_URL": keycloak_url,
            "DEMO_ADMIN_PASSWORD": passwords[ADMIN],
            "DEMO_USER_PASSWORD": passwords[USER],
        }
        if write_env(path, variables):
            print(f"Wrote {path}")
        if arguments.skip_example:
            return
        if not example_ran(url, token):
            run_example(url, token)
        show_refusal(url, passwords[USER])
    except requests.ConnectionError as error:
        place = urllib.parse.urlsplit(error.request.url).netloc if error.request is not None else url
        sys.exit(f"The quickstart failed: {place} does not answer")
    except (QuickstartError, access_token.LoginError, requests.RequestException) as error:
        sys.exit(f"The quickstart failed: {error}")
    shown = os.path.relpath(path)
    # Without kubectl on the machine, use the one that was installed with the cluster.
    kubectl = directory / "bin" / "kubectl"
    kubectl = os.path.relpath(kubectl) if not shutil.which("kubectl") and kubectl.exists() else "kubectl"
    print(f"""
MLflow    {url}   log in as {ADMIN} (administrator) or {USER}
Keycloak  {keycloak_url}
Passwords DEMO_ADMIN_PASSWORD and DEMO_USER_PASSWORD in {shown} (from the Secret keycloak-users
          of the namespace {arguments.keycloak_namespace}), which also has an access token of {ADMIN}

Next      source {shown}
          {kubectl} get pods --all-namespaces
          python docs/examples/iris.py          in an environment with docs/examples/requirements.txt
          docs/start-here.md describes the deployment on a cluster of your own

Removal   make clean        the clusters with their data, build/ and .venv
          make clean-all    also the downloads and builds: {cache()}
                            and the images localhost/mlops-mlflow/...
""")


if __name__ == "__main__":
    main()
