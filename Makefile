# Every target sets up what it needs in .venv and can be run again at any time.
#   make app     the comparison in the browser (port: GRADIO_SERVER_PORT, 7860 unless set)
#   make demo    the whole chain, from raw pool to report, in OUT (runs/demo)
#   make test    the default tests;  make test-slow, make test-browser: the others
#   make lint    ruff;  make bench: every script in benchmarks/
# Python 3.10 to 3.12 is looked for; make PYTHON=/path/to/python names one.

VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
PARTS := $(addprefix benchmarks/,segment.py duplicates.py scoring.py engines.py simple_measures.py)# of others
PACKAGING := pyproject.toml requirements.txt constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CANDIDATES := python3.11 python3.12 python3.10 python3 python
SUPPORTED := import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))

.DELETE_ON_ERROR:
.PHONY: help app demo test test-slow test-browser lint bench

help:
	@sed -n 's/^#   //p' Makefile

app: $(VENV)/app.stamp
	$(BIN)/alchemist app

demo: $(VENV)/app.stamp
	$(BIN)/alchemist demo --out $(OUT)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "slow and not browser and not gpu and not network"

test-browser: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m browser

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .

bench: $(VENV)/dev.stamp
	@set -e; for script in $(filter-out $(PARTS),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

$(VENV)/python.stamp:
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then exit 0; fi; \
	for python in $(or $(PYTHON),$(CANDIDATES)); do \
	  if $$python -c "$(SUPPORTED)" 2>/dev/null; then echo "setting up $(VENV) with $$($$python --version)"; \
	    exec $$python -m venv $(VENV); fi; \
	done; \
	echo "error: no Python 3.10, 3.11 or 3.12 with its venv module found among $(or $(PYTHON),$(CANDIDATES));" \
	  "install one, or name it: make PYTHON=/path/to/python" >&2; exit 2
	@touch $@

$(VENV)/app.stamp: $(VENV)/python.stamp $(PACKAGING)
	@echo "installing the packages of the app (once; minutes)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/app.stamp
	@echo "installing the packages of the tests"
	@$(INSTALL) --editable '.[dev]'
	@touch $@
