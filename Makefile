# Everything that is done with this project. `make` lists it.
#
# A target that needs Python makes its own .venv from the locked requirements; nothing is
# installed outside it. PYTHON names the interpreter, 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
YAML := .yamllint $(wildcard fixtures deploy)
SHELL_SCRIPTS := .ci/run $(wildcard hack/*.sh hack/vm/*.sh)

DEMO_ARGS ?=
TEST_ARGS ?=
E2E_ARGS ?=
SUITE ?= unstable
SOAK_ARGS ?=
FUZZ_ARGS ?=
BENCH_ARGS ?= hook --cpus apart --gap 2 --rounds 5

.DEFAULT_GOAL := help
.PHONY: help venv demo test soak fuzz lint e2e bench build lock protos clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.checks ## Make .venv with everything that development needs

demo: $(VENV)/.agent ## Run the agent on a simulated node: ends by itself within a minute (DEMO_ARGS)
	@$(BIN)/cpuset-reconciler demo $(DEMO_ARGS)

test: $(VENV)/.checks ## Run the tests: no root and no node needed (TEST_ARGS)
	$(BIN)/pytest -q $(TEST_ARGS)

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
	$(BIN)/python hack/links.py

e2e: $(VENV)/.agent ## Run the tests on real nodes in QEMU, as root (SUITE: unstable, trixie, ... or all; E2E_ARGS)
	$(BIN)/python hack/vm/e2e.py --suite '$(SUITE)' $(E2E_ARGS)

bench: $(VENV)/.checks ## Measure what the budgets name (BENCH_ARGS, for example 'hook --json')
	$(BIN)/python hack/bench $(BENCH_ARGS)

build: $(VENV)/.agent ## Build the wheel and the source archive into dist/
	$(BIN)/python -m build --no-isolation --outdir dist

lock: $(VENV)/.checks ## Write hack/requirements/*.txt anew from pyproject.toml (needs uv)
	$(BIN)/python hack/lock.py

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

$(VENV)/.fuzz: $(VENV)/.agent hack/requirements/fuzz.txt
	@echo "installing the fuzzer"
	@$(PIP) install --require-hashes --requirement hack/requirements/fuzz.txt
	@touch $@
