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
RUN := $(VENV)/.ready-$(shell cat requirements.txt requirements-test.txt 2>/dev/null | sha256sum | cut -c1-12)

export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export MOLECULE_GLOB := molecule/*/molecule.yml
export ANSIBLE_FORCE_COLOR ?= $(if $(TERM),1,)
unexport VIRTUAL_ENV

.PHONY: help
help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(RUN): requirements.txt requirements-test.txt
	@if [ -z "$(PYTHON)" ]; then echo "No Python 3.11 or newer is on the PATH; name one: make PYTHON=/path/to/python3" >&2; exit 1; fi
	echo "Making a virtual environment in $(VENV:$(CURDIR)/%=%) with $$($(PYTHON) --version), about a minute the first time"
	rm -rf "$(VENV)"
	$(PYTHON) -m venv "$(VENV)" || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt -r requirements-test.txt
	# Ansible finds collections on Python's path: this makes the checkout known as mlops.mlflow.
	collections=$$("$(BIN)/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ansible_collections
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
lint: venv ## Lint everything: ansible-lint, yamllint, ruff
	@yamllint --strict .
	ruff check .
	ruff format --check .
	ansible-lint --offline

# What a run left that died half-way, in this checkout or in another one.
.PHONY: no-test-cluster
no-test-cluster: venv
	@ansible-playbook -i tests/inventory playbooks/kind.yml -e kind_cluster_state=absent
	rm -f build/test/used

.PHONY: test-cluster
test-cluster: venv
	@ansible-playbook -i tests/inventory playbooks/kind.yml

.PHONY: unit
unit: test-cluster ## Test plugins, and every template against the API server of the tests' cluster
	@KUBECONFIG=$(CURDIR)/build/test/kubeconfig python -m pytest tests/unit --numprocesses 2 --dist loadfile

.PHONY: molecule
molecule: venv ## Run the scenario `default` on the tests' cluster
	@molecule test --scenario-name default

.PHONY: test
test: lint no-test-cluster unit molecule ## Everything that CI runs

.PHONY: test-full
test-full: other-python test ## What takes longer: external services, Vault, other ways to log in, loss of a cluster, interruptions, uninstall, faults, both ansible-cores
	@for scenario in external sealed vault basic oauth2_proxy; do molecule test --scenario-name $$scenario; done
	python -m pytest tests/drills
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
