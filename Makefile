# The front doors. Each needs only Python 3.11 or newer, make, and a package index; `make` alone installs and lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
# Parts of a target go in order: the installation first.
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# MXNet 1.9.1 needs NumPy 1.23, and that Python 3.11 or older: an environment of its own, for make parity only.
PYTHON311 ?= python3.11
MXNET_VENV := .venv-mxnet
MXNET_INSTALLED := $(MXNET_VENV)/.installed
MXNET_REQUIREMENTS := benchmarks/parity/mxnet_side/requirements.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: all help setup-env install demo run test test-long lint fuzz audit bench parity constraints clean

all: install help

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

install: $(INSTALLED) ## Virtual environment in .venv, with the versions and hashes of constraints-dev.txt

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu the package python3-venv is missing." >&2; exit 1; }

$(INSTALLED): pyproject.toml setup.py constraints-dev.txt constraints-insightface.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r constraints-insightface.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $(INSTALLED)

setup-env: ## Writes .env with every setting and its default, where there is none yet
	@if [ -e .env ]; then echo ".env is there already and is left as it is"; else cp .env.example .env && echo ".env is written; change in it what you need"; fi

demo: install ## People enrolled from photographs and recognized in other pictures
	$(BIN)/face-identity demo

run: install ## The service on SERVER_IP:SERVER_PORT (127.0.0.1:8000)
	$(BIN)/face-identity serve

lint: install ## Style, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Everything that .ci/run checks
	$(BIN)/pytest -m 'not long' -n 2 --dist loadfile

test-long: install ## The tests that take minutes
	$(BIN)/pytest -m long

fuzz: install ## Ten thousand requests and more made from the OpenAPI document; minutes
	$(BIN)/python -m tests.security.fuzz

audit: install ## Known vulnerabilities of the packages in constraints.txt; needs the network
	$(BIN)/python -m pip install --quiet -e '.[audit]'
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r constraints-dev.txt

bench: install ## Measurements beside other engines; results under benchmarks/results
	@$(BIN)/python -m pip install --quiet -e '.[bench]' || \
	    echo "Some engines to compare with could not be installed (hnswlib needs a compiler). The tables name them." >&2
	$(BIN)/python -m benchmarks

$(MXNET_INSTALLED): $(MXNET_REQUIREMENTS)
	@$(PYTHON311) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "$(PYTHON311) is no Python 3.11, which MXNet 1.9.1 needs. Name one: make parity PYTHON311=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON311) -m venv $(MXNET_VENV)
	$(MXNET_VENV)/bin/python -m pip install --quiet -r $(MXNET_REQUIREMENTS)
	@touch $(MXNET_INSTALLED)

parity: install $(MXNET_INSTALLED) ## Converted legacy models against MXNet itself; PARITY=--speed also measures
	$(BIN)/python -m benchmarks.parity --oracle $(MXNET_VENV)/bin/python $(PARITY)

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet

constraints: install ## Writes constraints.txt and constraints-dev.txt anew, with the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet 'uv>=0.5,<1'
	@{ echo "# Exact versions and SHA-256 of every package that the service needs; written by make constraints."; \
	   $(LOCK) --upgrade; } > constraints.new
	@mv constraints.new constraints.txt
	@{ echo "# The same for development and tests; written by make constraints."; $(LOCK) --upgrade --extra dev; } > constraints.new
	@mv constraints.new constraints-dev.txt

clean: ## Removes .venv, caches and demo-output
	rm -rf $(VENV) $(MXNET_VENV) demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "The data folder (DATA_DIR: database, models, secrets) is left as it is."
