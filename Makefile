# Needs Python 3.10 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
DURATIONS ?= 10
# So many processes run the tests. The heavy ones often wait; those of a file share
# servers and stay in one process.
WORKERS ?= 2
HEAVY_WORKERS ?= 3
# PYTEST_ADDOPTS adds options of pytest: make test PYTEST_ADDOPTS="-k register -x"
PYTEST = python -m pytest --durations $(DURATIONS)
UNIT = $(PYTEST) -n $(WORKERS) --dist worksteal tests/unit
COVERAGE = --cov --cov-report=term
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PATH := $(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

.PHONY: test test-fast test-slow coverage test-commands test-heavy test-releases lint demo bench bench-quick faults recipes clean

test: test-fast test-slow test-commands  ## unit tests, then whole commands: ten minutes

test-fast: .venv/ready  ## unit tests and renderings, in process: a minute
	@echo "==> Unit tests (a minute)"
	@$(UNIT) -m "not slow"

test-slow: .venv/ready  ## the other unit tests: half a minute
	@echo "==> Unit tests that take a second each (half a minute)"
	@$(UNIT) -m slow

coverage: .venv/ready  ## both, and the lines of tracking/ and check.py that they run
	@echo "==> Unit tests with coverage (two minutes)"
	@$(UNIT) $(COVERAGE)

test-commands: .venv/ready  ## what users type: nine minutes
	@echo "==> Tests of whole commands (about nine minutes)"
	@$(PYTEST) -n $(WORKERS) --dist worksteal tests/commands

test-heavy: .venv/ready  ## servers, clusters, browsers, other environments, faults
	@echo "==> Heavy tests: they install environments and wait (about twenty-five minutes)"
	@$(PYTEST) -n $(HEAVY_WORKERS) --dist loadfile tests/heavy || { \
	  echo "==> Those that have failed, once more and one at a time"; \
	  $(PYTEST) -n 0 --last-failed --last-failed-no-failures none tests/heavy; }

test-releases: .venv/ready  ## projects and these tests, on the oldest and newest releases
	@echo "==> Tests on other releases, in environments of their own (about twenty-five minutes)"
	@$(PYTEST) -n $(WORKERS) --dist loadfile tests/releases

lint: .venv/ready
	ruff check . && ruff format --check .

demo: .venv/ready  ## generate a project into demo/, run it, say what to do next
	python demo.py

bench: .venv/ready  ## times, memory and sizes, beside other ways to track: an hour
	python benchmarks/compare.py $(MEASURES)

bench-quick: .venv/ready  ## the ratios that a change may spoil: five minutes
	python benchmarks/compare.py quick --rounds=5

faults: .venv/ready  ## break every request to a server once in every way: hours
	python tests/sweep.py $(SWEEP)

recipes: .venv/ready  ## fit docs/recipes/*.diff to the template as it is now
	python tests/refresh_recipes.py

clean:
	rm -rf .venv demo build dist artifacts

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "==> Making .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip uv
	@echo "==> Installing the test environment into .venv (about a minute)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --group dev
	@touch $@
