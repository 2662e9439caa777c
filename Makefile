# Usage:
#   make bench [ARGS="--seed 3"]    the federation on this machine, until it is 90 % accurate
#   make base-model                 all-mpnet-base-v2, 109 M parameters, into ~/.cache/federa: for --model mpnet-base
#   make test  [ARGS="-k wire"]     all tests but the slow ones; the last line is pytest's. make ends with 2 where pytest
#                                   doesn't with 0
#   make test-all                   all tests
#   make test-containers            builds the images and runs them: needs Docker with Compose, or root to start an engine
#   make lint                       ruff, mypy, import-linter
#   make docs                       the site of docs/, into site/
#   make test-floor                 those of make test with the oldest versions supported, on Python 3.10
#   make soak [KILLS=200]           processes killed at random moments, run after run; each must end with the same state
#   make fuzz [MINUTES=10]          all that reads wire and ledger, by coverage-guided fuzzing; installs atheris
#   make protos                     the gRPC stubs anew
#   make reference                  docs/experiment.md anew, from the experiment's schema
#   make clean
#
# The first of them sets up .venv from constraints.txt, over the network. Later ones use neither network nor pip.

PYTHON ?= python3
PYTHON310 ?= python3.10
ARGS ?=
KILLS ?= 200
MINUTES ?= 10

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
FLOOR := .venv-floor
PIP := python -m pip --disable-pip-version-check --no-input

# The oldest supported: what a newer one generates would refuse an older protobuf at run time.
GRPC_TOOLS := grpcio-tools==1.62.3

# A process of pytest a core; the tests of a file, which share what is slow to make, in one of them.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help bench base-model test test-all test-containers lint docs test-floor soak fuzz protos reference clean

help:
	@sed -n '/^# Usage/,/^$$/s/^# \{0,1\}//p' Makefile

bench: $(VENV)/.ready
	$(VENV)/bin/federa-bench --method federa --target-acc 0.9 $(ARGS)

base-model: $(VENV)/.ready
	$(VENV)/bin/python -m federa.models.download mpnet-base

test: $(VENV)/.ready
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

test-all: $(VENV)/.ready
	$(VENV)/bin/python -m pytest $(PARALLEL) $(ARGS)

test-containers: $(VENV)/.ready
	$(VENV)/bin/python -m pytest --containers tests/docker/test_containers.py $(ARGS)

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The variable silences the theme's advertisement of its successor. Not --quiet: it would hide the warnings from --strict.
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

test-floor: $(FLOOR)/.ready
	$(FLOOR)/bin/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

soak: $(VENV)/.ready
	SOAK_KILLS=$(KILLS) $(VENV)/bin/python -m pytest -s --timeout 36000 tests/system/test_kills.py -k test_soak

fuzz: $(VENV)/.ready
	@$(VENV)/bin/python -c 'import atheris' 2>/dev/null || (set -x; $(VENV)/bin/$(PIP) install --quiet atheris==3.0.0)
	@mkdir -p .fuzz
	PYTHONPATH=.:tests/support $(VENV)/bin/python tests/fuzz.py -max_total_time=$$(($(MINUTES) * 60)) -timeout=20 -max_len=8192 .fuzz

protos: $(VENV)/.ready
	@test -d $(VENV)/protoc || { echo "make protos: needs Python 3.10 to 3.12, $(GRPC_TOOLS) has no wheel for this one"; exit 1; }
	PYTHONPATH=$(VENV)/protoc $(VENV)/bin/python -m protos.generate

reference: $(VENV)/.ready
	$(VENV)/bin/python -m federa.config.reference

clean:
	rm -rf $(VENV) $(FLOOR) build dist site federa_edge.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .fuzz
	find federa protos coordinator edge benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# .ready is written last and taken away first: a set-up that was interrupted starts over from an empty directory, one
# that is only out of date is brought up to date. setuptools goes in first, pinned, so that the build needs no
# environment of its own with a setuptools (or, by a slip, a torch) that nobody pinned; so does setuptools-scm, which
# seqeval's build asks for.
#
# grpcio-tools stays out of site-packages: it wants a protobuf older than the one pinned. It has no wheel for
# Python 3.13: there it's left out, and the test that generates the stubs anew skips itself.
$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	  || { echo "make: needs Python 3.10 to 3.13, and $(PYTHON) is none that runs ($$($(PYTHON) --version 2>&1 | tail -n 1)); say PYTHON=/path/to/python"; exit 1; }
	@clear=--clear; if test -e $@; then clear=; fi; rm -f $@; set -x; $(PYTHON) -m venv $$clear $(VENV)
	$(VENV)/bin/$(PIP) install --quiet -c constraints.txt setuptools setuptools-scm
	$(VENV)/bin/$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[cpu,demo,dev]'
	@rm -rf $(VENV)/protoc
	@if $(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	  set -x; $(VENV)/bin/$(PIP) install --quiet --no-deps --only-binary :all: --target $(VENV)/protoc $(GRPC_TOOLS); \
	else \
	  echo "$(GRPC_TOOLS) left out: no wheel for Python 3.13. The test that generates the stubs anew will skip itself."; \
	fi
	@touch $@

# torch 2.5.1 has CUDA packages with it on x86: about 6 GB.
$(FLOOR)/.ready: setup.cfg pyproject.toml constraints-floor.txt
	@$(PYTHON310) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null \
	  || { echo "make test-floor: needs Python 3.10, and $(PYTHON310) isn't one that runs; say PYTHON310=/path/to/python3.10"; exit 1; }
	@clear=--clear; if test -e $@; then clear=; fi; rm -f $@; set -x; $(PYTHON310) -m venv $$clear $(FLOOR)
	$(FLOOR)/bin/$(PIP) install --quiet -c constraints-floor.txt setuptools setuptools-scm
	$(FLOOR)/bin/$(PIP) install --quiet -c constraints-floor.txt --no-build-isolation -e '.[cpu,demo,test]'
	@touch $@
