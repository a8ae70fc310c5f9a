# make demo: install, and run the main job.  make test: install with the test extras, and run the tests.
# make test-kernels: the numeric tests again, with other threads and vector instructions than make test's.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# the first Python that answers: a shim on the path may name one that is not there
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
# a process a core, up to four: each takes about a gigabyte; neighbours in one process, as they share what they set up
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# what holds numbers to numbers; of the contracts, those that do
NUMERIC := tests/nn tests/test_distributed.py tests/objectives tests/encoders tests/train/test_ddp.py tests/test_contracts.py \
	-k "not test_contracts or ranks or padding or golden"

.PHONY: help demo test test-all test-kernels gpu clean

help:
	@echo "make demo      install into $(VENV) and run the demo: three modalities, one table, runs/demo/report.html"
	@echo "make test      install with the test extras and run the tests (under 10 minutes on two cores)"
	@echo "make test-all  the tests that are slower, too"
	@echo "make test-kernels  the numeric tests as on other processors: two threads, AVX2, no vector instructions"
	@echo "make gpu       what needs a GPU, on one: its tests, bf16 against 32 bits, speed; into benchmarks/results/gpu.json"
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
	$(PYTEST)

test-all: $(VENV)/.installed-test
	$(PYTEST) -m "not gpu"

# both runs, whatever the first says
test-kernels: $(VENV)/.installed-test
	@failed=0; \
	numeric() { echo "numeric tests with $$*"; env "$$@" $(PYTEST) $(NUMERIC) || failed=1; }; \
	numeric OMP_NUM_THREADS=2 ATEN_CPU_CAPABILITY=avx2; \
	numeric OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBILITY ONEDNN_MAX_CPU_ISA=SSE41; \
	exit $$failed

# within eight minutes on one GPU; one line and exit 1 without
gpu: $(VENV)/.installed-test
	@$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf $(VENV)
