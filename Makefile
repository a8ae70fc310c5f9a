# make demo: install, and run the main job.  make test: install with the test extras, and run the tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# the first Python that answers: a shim on the path may name one that is not there
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-all clean

help:
	@echo "make demo      install into $(VENV) and run the demo: three modalities, one table, runs/demo/report.html"
	@echo "make test      install with the test extras and run the tests (under 10 minutes on two cores)"
	@echo "make test-all  the tests that are slower, too"
	@echo "make clean     remove $(VENV) (runs/ stays)"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "sslzoo needs Python 3.11, 3.12 or 3.13: install one, or set PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "this Python cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing sslzoo into $(VENV) (torch is large: some minutes the first time)"
	@$(PIP) -e '.[spoken]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) -e '.[test]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/sslzoo compare comparison=demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not gpu"

clean:
	rm -rf $(VENV)
