# Everything a person runs here. `make` alone lists the targets.
PYTHON ?= python3
DEMO_STUDIES ?= 3000
SIZES ?= 6000 60000
FUZZ_STUDIES ?= 1000
FUZZ_VALUES ?= 6
# How much of a soak: 1 is all of it.
SOAK ?= 1
# One more than two cores: while one waits for a server, a kill or a pause, both compute (1% idle instead of 10%).
TEST_PROCESSES ?= 3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_BENCH := $(VENV)/.ready-bench
READY_DEPLOY := $(VENV)/.ready-deploy
LOCK_TOOLS := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-header --no-annotate --no-emit-index-url
LOCK := $(LOCK_TOOLS) --extra celery --extra clickhouse --extra iceberg --extra objects --extra release --extra report

# The order is that of the tests, which begin with the files that take longest.
PYTEST := $(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# Dagster finds its instance (dagster.yaml) here, whatever it is started for.
export DAGSTER_HOME ?= $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup refresh status dev demo demo-dev test test-fast soak fuzz lint lint-python lint-sql check-deploy format generate bench bench-full bench-pace lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Set up the environment in .venv

refresh: $(READY) ## Set up what is missing and bring everything up to date
	@$(BIN)/ctg-assets refresh

status: $(READY) ## Say what is there and how fresh it is
	@$(BIN)/ctg-assets status

dev: $(READY) ## Start the Dagster UI with the sensor, on port 3000
	@$(BIN)/ctg-assets dev

demo: $(READY) ## The main job against generated studies, with no network
	@BIN="$(CURDIR)/$(BIN)" STUDIES=$(DEMO_STUDIES) scripts/demo refresh

demo-dev: $(READY) ## The Dagster UI with the sensor on the demo's data
	@BIN="$(CURDIR)/$(BIN)" STUDIES=$(DEMO_STUDIES) scripts/demo dev

test: $(READY_DEV) ## Set up what is missing and run the tests
	@$(PYTEST)

test-fast: $(READY_DEV) ## The tests that need no Postgres and no other process, in less than a minute
	@$(PYTEST) -m "not (postgres or process or slow or soak)"

soak: $(READY_DEV) ## The tests that repeat at random, many times over, and all that users get (SOAK=0.2 for a part of it)
	@TEST_SOAK=$(SOAK) $(PYTEST) -m soak

fuzz: $(READY_DEV) ## Thousands of studies with something odd in each, to the last table and mart
	@TEST_SOAK=1 FUZZ_STUDIES=$(FUZZ_STUDIES) FUZZ_VALUES=$(FUZZ_VALUES) $(BIN)/pytest -q -s \
		ctg_assets_tests/whole_way/test_odd_studies.py ctg_assets_tests/marts/test_odd_fields.py

lint: lint-python lint-sql ## Check style, types and SQL (make --jobs=2 checks both at once)
	@scripts/check-forbidden

lint-python: $(READY_DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lint-sql: $(READY_DEV)
	@$(BIN)/sqlfluff lint --disable-progress-bar dbt_project

check-deploy: $(READY_DEPLOY) ## Check the files under deploy/ with the tools that read them, and build and run the image
	@BIN=$(BIN) scripts/check-deploy
	@scripts/check-image

format: $(READY_DEV) ## Put Python and SQL into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/sqlfluff fix --disable-progress-bar dbt_project

generate: $(READY) ## Write again what is derived from the data model
	@$(BIN)/python -m ctg_assets.codegen

bench: $(READY_BENCH) ## Measure speed and memory, against peers (SIZES="6000 60000")
	@$(BIN)/python -m benchmarks --sizes $(SIZES)

bench-pace: $(READY) ## Measure the pace of a walk over a registry that is slow to answer
	@$(BIN)/python -m benchmarks.pace

bench-full: $(READY_BENCH) ## The same with as many studies as the registry has
	@$(BIN)/python -m benchmarks --sizes 6000 60000 600000

lock: $(READY_DEV) ## Pin the newest allowed versions in requirements*.txt
	@$(LOCK) --upgrade pyproject.toml --extra clickhouse-embedded --group build --group dev --output-file requirements-dev.txt
	@$(LOCK) pyproject.toml --group build --constraint requirements-dev.txt \
		--output-file requirements.txt
	@$(LOCK) pyproject.toml --extra clickhouse-embedded --group build --group bench --constraint requirements-dev.txt \
		--output-file requirements-bench.txt
	@$(LOCK) pyproject.toml --extra kubernetes --group build --constraint requirements-dev.txt \
		--output-file requirements-image.txt
	@$(LOCK_TOOLS) --group deploy --constraint requirements-dev.txt --output-file requirements-deploy.txt

clean: ## Remove the environment and caches; data stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dbt_project/target dbt_project/logs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit( \
		"Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; make PYTHON=... chooses another")'
	@$(PYTHON) -m venv $(VENV)

$(READY): requirements.txt pyproject.toml | $(BIN)/python
	@echo "setting up the environment in $(VENV) (about a minute)"
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# uv installs in a tenth of the time that pip takes; where it finds no index, pip may be told of one.
$(READY_DEV): requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "setting up the environment in $(VENV), with what tests and checks need"
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt >$(VENV)/uv.txt
	@$(PIP) install --require-hashes -r $(VENV)/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt || \
		$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(READY) $@

$(READY_BENCH): requirements-bench.txt $(READY)
	@echo "adding what the benchmarks compare with"
	@$(PIP) install --require-hashes -r requirements-bench.txt
	@touch $@

$(READY_DEPLOY): requirements-deploy.txt $(READY_DEV)
	@echo "adding what reads the files under deploy/"
	@$(PIP) install --require-hashes -r requirements-deploy.txt
	@touch $@
