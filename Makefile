# The collection's tasks. `make help` lists them; `make quickstart` and `make test` need nothing done before.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
LOCKS := requirements.txt requirements-test.txt requirements-collections.txt
RUN := $(VENV)/.ready-$(shell cat $(LOCKS) 2>/dev/null | sha256sum | cut -c1-12)
# galaxy-importer pins older versions of what we use.
SANITY_VENV := $(CURDIR)/build/venv-sanity$(if $(filter $(CURDIR)/.venv,$(VENV)),,-other)
SANITY_RUN := $(SANITY_VENV)/.ready-$(shell sha256sum requirements-sanity.txt 2>/dev/null | cut -c1-12)
# The server package runs on the image's packages, which need a newer Python than Ansible does. Kept, since they are large.
SERVER_PYTHON ?= $(shell for python in python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13*/bin/python3 \
	python3.12 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.12*/bin/python3 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$python && break; done)
SERVER_VENV := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mlops.mlflow/server-$(shell \
	cat server/requirements.txt server/requirements-test.txt 2>/dev/null | sha256sum | cut -c1-12)
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export MOLECULE_GLOB := molecule/*/molecule.yml
export ANSIBLE_FORCE_COLOR ?= $(if $(TERM),1,)
unexport VIRTUAL_ENV

ACTIONLINT := v1.7.12

.PHONY: help
help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(RUN): $(LOCKS)
	@if [ -z "$(PYTHON)" ]; then echo "No Python 3.11 or newer is on the PATH; name one: make PYTHON=/path/to/python3" >&2; exit 1; fi
	echo "Making a virtual environment in $(VENV:$(CURDIR)/%=%) with $$($(PYTHON) --version), about a minute the first time"
	rm -rf "$(VENV)"
	$(PYTHON) -m venv "$(VENV)" || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(BIN)/python" $(PIP_INSTALL) -r requirements.txt -r requirements-test.txt
	# Ansible finds collections on Python's path: this puts those that are needed there, and makes the checkout known as mlops.mlflow.
	collections=$$("$(BIN)/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ansible_collections
	"$(BIN)/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
	  -r requirements-collections.txt --dest "$(VENV)/wheels"
	"$(BIN)/python" -c 'import sys, zipfile; wheel = zipfile.ZipFile(sys.argv[1]); wheel.extractall(
	  sys.argv[2], [name for name in wheel.namelist() if name.startswith(tuple(sys.argv[3:]))])' \
	  "$(VENV)"/wheels/ansible-*.whl "$$(dirname "$$collections")" \
	  ansible_collections/kubernetes/core/ ansible_collections/ansible/posix/
	rm -r "$(VENV)/wheels"
	mkdir -p "$$collections/mlops"
	ln -sfn "$(CURDIR)" "$$collections/mlops/mlflow"
	touch "$@"

.PHONY: venv
venv: $(RUN)

.PHONY: quickstart
quickstart: venv ## Make a kind cluster, deploy the whole stack on it, and run an example
	@started=$$SECONDS
	ansible-playbook -i inventory/kind playbooks/kind.yml
	ansible-playbook -i inventory/kind playbooks/site.yml
	python docs/examples/quickstart.py --directory build/quickstart
	echo "make quickstart took $$((SECONDS - started)) s"

.PHONY: lint
lint: venv ## Lint everything: ansible-lint, yamllint, ruff, mypy, the changelog, and actionlint where Go is installed
	@yamllint --strict .
	ruff check .
	ruff format --check .
	mkdir -p build/types/ansible_collections/mlops
	ln -sfn ../../../.. build/types/ansible_collections/mlops/mlflow
	mypy
	mypy --config-file server/pyproject.toml server/src/mlops_mlflow_server
	antsibull-changelog lint
	ansible-lint --offline
	if command -v go >/dev/null; then go run github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT); fi

$(SANITY_RUN): requirements-sanity.txt | venv
	@rm -rf "$(SANITY_VENV)"
	"$(BIN)/python" -m venv "$(SANITY_VENV)"
	"$(SANITY_VENV)/bin/python" $(PIP_INSTALL) -r requirements-sanity.txt
	# The documentation of kubernetes.core is a part of ours.
	place='import sysconfig; print(sysconfig.get_path("purelib"))'
	mkdir -p "$$("$(SANITY_VENV)/bin/python" -c "$$place")/ansible_collections"
	ln -sfn "$$("$(BIN)/python" -c "$$place")/ansible_collections/kubernetes" "$$("$(SANITY_VENV)/bin/python" -c "$$place")/ansible_collections/"
	touch "$@"

.PHONY: sanity
sanity: $(SANITY_RUN) ## Run what Galaxy and certifiers run: ansible-test sanity, galaxy-importer, antsibull-docs, ansible-builder
	@tests/sanity/ansible-test
	tests/sanity/galaxy "$(SANITY_VENV)/bin"

.PHONY: changelog
changelog: venv ## Write CHANGELOG.rst from the fragments, which stay until a release takes them
	@rm -rf build/changelog
	mkdir -p build/changelog
	cp -R changelogs galaxy.yml meta playbooks plugins roles build/changelog
	cd build/changelog
	antsibull-changelog release
	cp CHANGELOG.rst "$(CURDIR)"

.PHONY: requirements
requirements: ## Resolve requirements*.in again; UPGRADE=--upgrade takes newer versions. Needs uv
	@for name in requirements requirements-test requirements-sanity requirements-collections; do
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(UPGRADE) \
	    $$(case $$name in *-collections) echo --no-deps;; esac) $$name.in --output-file $$name.txt
	done
	cd server
	for name in requirements requirements-test; do
	  uv pip compile --quiet --python-platform linux --python-version 3.12 --generate-hashes --no-header --no-annotate $(UPGRADE) \
	    $$name.in --output-file $$name.txt
	done

# What a run left that died half-way, in this checkout or in another one.
.PHONY: no-test-cluster
no-test-cluster: venv
	@ansible-playbook -i tests/inventory playbooks/kind.yml -e kind_cluster_state=absent
	rm -f build/test/used

$(SERVER_VENV)/.ready:
	@if [ -z "$(SERVER_PYTHON)" ]; then echo "The server package needs a Python 3.12 or newer; name one: make server SERVER_PYTHON=/path/to/python3" >&2; exit 1; fi
	echo "Making a virtual environment with MLflow for the tests of the server package, about two minutes the first time"
	rm -rf "$(SERVER_VENV)"
	$(SERVER_PYTHON) -m venv "$(SERVER_VENV)"
	"$(SERVER_VENV)/bin/python" $(PIP_INSTALL) --only-binary :all: -r server/requirements.txt
	"$(SERVER_VENV)/bin/python" $(PIP_INSTALL) --only-binary :all: -r server/requirements-test.txt
	touch "$@"

# Installed, for its entry points, but not into the environment, which other checkouts use too.
.PHONY: server
server: $(SERVER_VENV)/.ready ## Test the server package against the MLflow and mlflow-oidc-auth of its requirements
	@rm -rf build/server
	mkdir -p build/server/source
	cp -R server/pyproject.toml server/README.md server/src build/server/source
	"$(SERVER_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --target build/server/package build/server/source
	PYTHONPATH="$(CURDIR)/build/server/package" "$(SERVER_VENV)/bin/python" -m pytest -c server/pyproject.toml --rootdir server $(if $(findstring server/tests,$(ARGS)),,server/tests) $(ARGS)

.PHONY: upstream
upstream: ## Test the server package against the newest MLflow and mlflow-oidc-auth that the package index has
	@"$(SERVER_PYTHON)" server/upstream.py $(ARGS)

.PHONY: test-cluster
test-cluster: venv
	@ansible-playbook -i tests/inventory playbooks/kind.yml

.PHONY: unit
unit: test-cluster ## Test plugins, and every template against the API server of the tests' cluster
	@KUBECONFIG=$(CURDIR)/build/test/kubeconfig python -m pytest tests/unit --numprocesses 2 --dist loadfile --durations 10

.PHONY: molecule
molecule: venv ## Run one scenario on the tests' cluster (SCENARIO=default)
	@molecule test --scenario-name $(or $(SCENARIO),default)

.PHONY: drills
drills: venv ## Run the drills: faults, interruptions, uninstall, upgrade, leaks
	@python -m pytest tests/drills --durations 10

.PHONY: test
test: lint sanity no-test-cluster unit molecule ## Lint, sanity, unit tests and the scenario `default`; prints the slowest tests

.PHONY: test-full
test-full: other-python test server ## What takes longer: external services, Vault, other ways to log in, loss of a cluster, interruptions, uninstall, faults, both ansible-cores
	@for scenario in external sealed backup vault basic oauth2_proxy edge load walls matrix; do molecule test --scenario-name $$scenario; done
	$(MAKE) drills
	$(MAKE) test-other-core

# Asked first, rather than after an hour of other tests.
.PHONY: other-python
other-python: venv
	@[ -n "$${OTHER_PYTHON:-}" ] || tests/other-python "$(BIN)/python" >/dev/null

.PHONY: test-core
test-core: unit ## Run the unit tests and deploy by the ansible-core of the virtual environment
	@python -m pytest tests/drills/test_core.py

.PHONY: test-other-core
test-other-core: venv ## Run test-core by the other supported ansible-core; OTHER_PYTHON names its Python
	@other="$${OTHER_PYTHON:-$$(tests/other-python "$(BIN)/python")}"
	$(MAKE) test-core PYTHON="$$other" VENV="$(CURDIR)/build/venv-other"

.PHONY: bench
bench: venv ## Print the figures of a running quickstart, as ratios against a peer; also makes and removes the tests' cluster, about 3 minutes (ARGS='--only memory access' leaves it out, ARGS=--help lists all)
	@PYTHONPATH=docs/examples python -m tests.bench.bench --directory build/quickstart $(ARGS)

.PHONY: clean
clean: venv ## Remove both clusters with their data, build/ and .venv; what was built for them stays for the next time
	@ansible-playbook -i inventory/kind playbooks/kind.yml -e kind_cluster_state=absent
	ansible-playbook -i tests/inventory playbooks/kind.yml -e kind_cluster_state=absent
	rm -rf build .ansible "$(VENV)"

# Only what carries our own name; an image that a container still uses stays. Go leaves directories that are read-only.
.PHONY: clean-all
clean-all: clean ## Remove also the cache (~/.cache/mlops.mlflow) and the images named localhost/mlops-mlflow/...; system packages stay
	@for engine in docker podman; do
	  images=$$($$engine images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep '^localhost/mlops-mlflow/') || continue
	  $$engine rmi $$images || true
	done
	cache="$${XDG_CACHE_HOME:-$$HOME/.cache}/mlops.mlflow"
	if [ -d "$$cache" ]; then chmod -R u+w "$$cache"; rm -rf "$$cache"; fi
