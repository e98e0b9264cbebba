# Every target prepares what it needs: Python 3.11+ and make are enough to begin with.
#   PYTHON=python3.13 make test      another interpreter (after `make clean`)
#   SQLALCHEMY=2.0 make test         the other supported SQLAlchemy, in an environment of its own
#   ARGS='-k address -x' make test   options for pytest, the demo or the bench
#   JOBS=8 make test                 more tests at once
SHELL := /bin/bash
.DEFAULT_GOAL := help

export SQLALCHEMY
# Tests start hundreds of Python processes: each reads what the first one has compiled.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv$(if $(SQLALCHEMY),-sqlalchemy-$(SQLALCHEMY))
BIN := $(VENV)/bin
# Twice the cores of a small machine: every second test waits, for a server or for a deadline.
JOBS ?= 4
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: help env services demo shop test coverage lint format types bench faults lock build clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 12

demo: env ## place an order, deliver its mail to a local inbox, show what happened
	@$(BIN)/postroom demo $(ARGS)

shop: env ## open the example shop with a local inbox; PORT=8000, ENGINE=threads or celery
	@$(BIN)/python -m examples.shop --port $(or $(PORT),8000) --engine $(or $(ENGINE),threads) $(ARGS)

test: env services ## every test but the long forms
	@$(PYTEST) $(ARGS)

coverage: env services ## the same, and which lines and branches they miss
	@$(PYTEST) --cov --cov-report=term $(ARGS)

lint: env ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: env ## ruff: mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: env ## mypy and pyright
	@$(BIN)/mypy
	@$(BIN)/basedpyright

bench: env services ## our figures beside smtp-source, in the short form
	@$(BIN)/python -m bench --short $(ARGS)

faults: env services ## the long form of the tests that kill, cut, press relays and try any mail
	@$(BIN)/python -m pytest tests/faults tests/integration/test_mime_parsers.py \
		tests/integration/test_relay_limits.py --full -s $(ARGS)

lock: env ## resolve requirements.lock anew
	@.bootstrap/bin/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
		--all-extras --group dev --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' --output-file requirements.lock

build: env ## wheel and source distribution, in dist/
	@.bootstrap/bin/uv build --quiet --no-build-isolation --python $(BIN)/python --clear

clean: ## forget environments, caches and builds
	@rm -rf .venv* .bootstrap .cache .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache dist

env:
	@scripts/bootstrap

services:
	@scripts/services
