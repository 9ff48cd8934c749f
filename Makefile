# Needs Python 3.11 or newer, make, and a package index. `make` alone installs everything and lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
# Prerequisites run in the order written: the installation first.
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Only make parity uses this second environment: MXNet 1.9.1 needs NumPy 1.23, which needs Python 3.11 or older.
PYTHON311 ?= python3.11
MXNET_VENV := .venv-mxnet
MXNET_INSTALLED := $(MXNET_VENV)/.installed
MXNET_REQUIREMENTS := benchmarks/parity/mxnet_side/requirements.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: all help setup-env install demo run test test-long lint fuzz siege audit bench parity constraints clean

all: install help

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

install: $(INSTALLED) ## Create .venv with every package of constraints-dev.txt; pip verifies the hashes

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed. Run: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment. On Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }

$(INSTALLED): pyproject.toml setup.py constraints-dev.txt constraints-insightface.txt constraints-generators.txt | $(BIN)/python
	@# Environments of earlier versions hold two builds of OpenCV that share files; removing one breaks the other.
	@! ls -d $(VENV)/lib/python*/site-packages/opencv_python-*.dist-info >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r constraints-insightface.txt -r constraints-generators.txt
	@# Without build isolation: the build backend is the verified one of constraints-dev.txt.
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

setup-env: ## Write .env with every setting and its default, if there is none
	@if [ -e .env ]; then echo ".env exists already and was not changed"; else cp .env.example .env && echo ".env was written; change the settings that you need"; fi

demo: install ## Enroll people from photographs and recognize them in other images
	$(BIN)/face-identity demo

run: install ## Serve on SERVER_IP:SERVER_PORT (127.0.0.1:8000)
	$(BIN)/face-identity serve

lint: install ## Check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Run every check of .ci/run
	$(BIN)/pytest -m 'not long' -n 2 --dist loadfile

test-long: install ## Run the tests that take minutes
	$(BIN)/pytest -m long

fuzz: install ## Send more than 10,000 requests generated from the OpenAPI document; takes minutes
	$(BIN)/python -m tests.security.fuzz

siege: install ## Measure an honest client while another tenant attacks the server; takes minutes
	$(BIN)/python -m benchmarks.siege

audit: install ## List known vulnerabilities of the packages in constraints-dev.txt; needs the network
	$(BIN)/python -m pip install --quiet -e '.[audit]'
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r constraints-dev.txt

bench: install ## Measure beside other engines; results under benchmarks/results
	@$(BIN)/python -m pip install --quiet -e '.[bench]' || \
	    echo "Some engines to compare with could not be installed (hnswlib needs a compiler). The tables name them." >&2
	$(BIN)/python -m benchmarks

$(MXNET_INSTALLED): $(MXNET_REQUIREMENTS)
	@$(PYTHON311) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "$(PYTHON311) is not Python 3.11, which MXNet 1.9.1 needs. Run: make parity PYTHON311=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON311) -m venv $(MXNET_VENV)
	$(MXNET_VENV)/bin/python -m pip install --quiet -r $(MXNET_REQUIREMENTS)
	@touch $(MXNET_INSTALLED)

parity: install $(MXNET_INSTALLED) ## Compare converted legacy models with MXNet; PARITY=--speed also measures
	$(BIN)/python -m benchmarks.parity --oracle $(MXNET_VENV)/bin/python $(PARITY)

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet

constraints: install ## Rewrite constraints.txt and constraints-dev.txt with the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet 'uv>=0.5,<1'
	@{ echo "# Exact versions and SHA-256 of every package that the service needs; written by make constraints."; \
	   $(LOCK) --upgrade; } > constraints.new
	@mv constraints.new constraints.txt
	@{ echo "# The same for development and tests; written by make constraints."; $(LOCK) --upgrade --extra dev; } > constraints.new
	@mv constraints.new constraints-dev.txt

clean: ## Remove .venv, caches and demo-output
	rm -rf $(VENV) $(MXNET_VENV) demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "The data folder (DATA_DIR: database, models, secrets) was not removed."
