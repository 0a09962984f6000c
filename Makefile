# Everything a newcomer needs: `make serve` serves, `make test` runs every check and test.
# A second run of either starts at once: the stamps in .venv depend on what is installed from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
BENCH ?= startup

# The build backend is pinned as well: newer pips read its version from the second variable only.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --no-input

# $(call debian,PACKAGES): installs Debian packages, or says what is missing.
define debian
if ! command -v apt-get >/dev/null; then \
	echo "Please install the equivalents of these Debian packages: $(1)" >&2; exit 1; \
elif [ "$$(id -u)" = 0 ]; then as_root=; \
elif command -v sudo >/dev/null; then as_root=sudo; \
else echo "Please run as root: apt-get install $(1)" >&2; exit 1; fi; \
echo "Installing $(1)…"; \
$$as_root apt-get update -qq && \
$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null
endef

.PHONY: help setup serve test lint format bench clean packages

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: $(VENV)/.development ## install all that work on the code needs

serve: $(VENV)/.runtime ## set up and serve; ARGS="--port 9000" are options of `inferno serve`
	@exec $(BIN)/inferno serve $(ARGS)

test: packages $(VENV)/.development ## run every check and test
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(VENV)/.development ## check style, types and imports
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

format: $(VENV)/.development ## format the code, and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

bench: $(VENV)/.development ## run a benchmark: BENCH=startup
	$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

clean: ## remove the environment and everything that tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks training -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Inferno needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(call debian,python3-venv); }
	@echo "Setting up $(VENV)…"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing what Inferno needs…"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing what work on Inferno needs…"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

# The tests run against a Postgres and a Redis of their own, curl is one of the clients, and
# prometheus brings promtool, which checks our metrics.
packages:
	@missing=; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
		|| missing="$$missing postgresql"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	[ -z "$$missing" ] || { $(call debian,$$missing); }
