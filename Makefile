# Each command sets up what it needs; `make install` does that and no more.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test referees thorough bench lint types

help:  ## what there is to make
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

# An install is repeated only when the lock or the project file has changed.
.venv/.installed-%: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit("atom-sync needs Python 3.11 or newer: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	@echo "Installing ($*) …"
	@$(BIN)/pip install -qq --disable-pip-version-check --constraint requirements.lock setuptools
	@$(BIN)/pip install -qq --disable-pip-version-check --no-build-isolation --constraint requirements.lock --editable '.$(if $(filter run,$*),,[$*])'
	@$(BIN)/python -m compileall -q accounts billing cli connectors deployments flows integrations recipes sandbox servers settings storage web
	@touch $@

install: .venv/.installed-run  ## what running it for real needs, into .venv
	@echo "installed: $(BIN)/atom-sync"

demo: .venv/.installed-run  ## everything on this machine, against sandboxed vendors (ARGS=--exit to check and leave)
	@$(BIN)/atom-sync demo $(ARGS)

test: .venv/.installed-dev lint types  ## lint, types and all tests
	@$(BIN)/pytest $(ARGS)

lint: .venv/.installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: .venv/.installed-dev
	@$(BIN)/mypy

# The CDK's dependencies are none of ours, and pinned otherwise: it has an environment of its own.
.venv-cdk/.installed: tests/referees/cdk.lock
	@$(PYTHON) -m venv --clear .venv-cdk
	@echo "Installing the CDK …"
	@.venv-cdk/bin/pip install -qq --disable-pip-version-check --requirement tests/referees/cdk.lock
	@touch $@

referees: .venv/.installed-dev .venv/.installed-referees .venv-cdk/.installed  ## vendors' own SDKs judge the sandbox, Airbyte's CDK our recipes, and Schemathesis the API at length
	@$(BIN)/pytest -m referee $(ARGS)

thorough: .venv/.installed-dev  ## what `make test` tries once, at full size and on every stream
	@$(BIN)/pytest -m thorough $(ARGS)

bench: .venv/.installed-dev  ## speed, as ratios to a floor measured in the same run
	@$(BIN)/python -m benchmarks $(ARGS)
