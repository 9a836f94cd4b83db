# What a developer or an operator types. Everything lives in .venv; `make help` lists the targets.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed
PLOTS_STAMP := $(VENV)/.plots-installed
ARGS ?=
# A file's tests share its services: they stay in one process, and each process has a share of the files. In their own order
# the quick ones, in tests/unit, come last: at the end no process waits long for another.
# Two for each core: many of them wait, for a lease that ends or a service that starts.
PYTEST := $(BIN)/python -m pytest --numprocesses $(shell expr 2 \* $$(nproc 2>/dev/null || echo 1)) --dist loadfile --no-loadscope-reorder

# The first Python on PATH that runs, is 3.11 or newer and can make a venv; PYTHON=… overrides it.
# Each is run, not only found: a pyenv shim exists also for versions that are not active.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do if $$p -c '$(USABLE)' >/dev/null 2>&1; then echo $$p; break; fi; done)

# The build backend runs in an environment of its own; these pin it too (the second is what pip 25.3 and newer read).
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start the service hundreds of times: each start would compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

# What is type-checked beside the files of [tool.mypy], as far as it is there.
MYPY_ALSO = $(wildcard benchmarks/*.py migrations/env.py deploy/compose/*.py)

BENCHES := issue_csr batch latency public_files health_under_keys keys crl memory

# What `make test-all` tests on, each in a venv of its own.
VERSIONS := 3.11 3.12 3.13

.PHONY: help install serve test test-all coverage fuzz storm check format bench bench-pages bench-grow bench-scale bench-plots docs \
	build constraints hooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## make .venv with the pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(USABLE)'; then \
		echo "tiny-ca needs Python 3.11 or newer with pip and venv (Debian: python3-venv); name one with PYTHON=…" >&2; \
		exit 1; \
	fi
	@$(BIN)/python -c '$(USABLE)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[service,dev]'
	@touch $@

serve: $(STAMP) ## start the service on http://127.0.0.1:8000 (ARGS="--port 9000")
	@exec $(BIN)/tiny-ca serve $(ARGS)

test: $(STAMP) ## run every test, the count last (ARGS="-k serial")
	@$(PYTEST) $(ARGS)

test-all: ## run every test on each of Python 3.11, 3.12 and 3.13 that is found; fails if one does
	@status=0; ran=; missing=; \
	for version in $(VERSIONS); do \
		found=; \
		for python in python$$version "$${PYENV_ROOT:-$(HOME)/.pyenv}"/versions/$$version.*/bin/python; do \
			if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then missing="$$missing $$version"; continue; fi; \
		echo "== Python $$version"; ran=1; \
		$(MAKE) test VENV=.venv-$$version PYTHON="$$found" || status=1; \
	done; \
	if [ -n "$$missing" ]; then echo "not found, so not tested:$$missing" >&2; fi; \
	if [ -z "$$ran" ]; then status=1; fi; \
	exit $$status

coverage: $(STAMP) ## run every test and show the lines and branches that none reaches
	@$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html:build/coverage $(ARGS)

fuzz: $(STAMP) ## feed damaged DER to what reads and signs it (ARGS="--seconds 300")
	@$(BIN)/python tests/fuzz/fuzz_der.py $(ARGS)

storm: $(STAMP) ## ten minutes of replicas and a PostgreSQL that die and hang under load (ARGS="--seconds 60 --seed 1")
	@$(BIN)/python -m tests.crash.storm --seconds 600 $(ARGS)

check: $(STAMP) ## formatting, lint, types and import contracts; runs them all, fails if one does
	@status=0; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/mypy tiny_ca app tests $(MYPY_ALSO) || status=1; \
	$(BIN)/lint-imports --no-logo || status=1; \
	exit $$status

format: $(STAMP) ## format, and fix what ruff can fix safely
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

bench: $(STAMP) ## run the benchmarks of the service, some minutes each (BENCHES="issue_csr" ARGS="--rounds 3")
	@set -e; for name in $(BENCHES); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(ARGS); done

bench-pages: $(STAMP) ## deep pages of a million certificates
	@$(BIN)/python benchmarks/list_pages.py $(ARGS)

bench-grow: $(STAMP) ## each operation at 10^4 to 10^6 certificates, both databases (ARGS="--sizes 10000 100000")
	@$(BIN)/python benchmarks/grow.py $(ARGS)

bench-scale: $(STAMP) ## certificates per second of 1, 2 and 4 workers, both databases
	@$(BIN)/python benchmarks/scale.py $(ARGS)

bench-plots: $(PLOTS_STAMP) ## measure and draw docs/images/*.svg (ARGS="--redraw" draws again what was measured)
	@$(BIN)/python benchmarks/plots.py $(ARGS)

$(PLOTS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[plots]'
	@touch $@

docs: $(DOCS_STAMP) ## make the documentation in build/docs; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

build: $(STAMP) ## make dist/*.tar.gz and dist/*.whl
	@$(BIN)/python -m build

# Made with the oldest Python that is supported: it needs a superset of what newer ones need.
constraints: ## take the newest versions of everything into constraints.txt
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT && \
	$(PYTHON) -m venv "$$fresh" && \
	"$$fresh/bin/python" -m pip install --quiet '.[service,dev,docs,plots]' && \
	"$$fresh/bin/python" -m pip freeze --exclude tiny-ca-service | LC_ALL=C sort --ignore-case > "$$fresh/pins" && \
	if grep --invert-match --extended-regexp '^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$$' "$$fresh/pins"; then \
		echo "these are no plain pins; constraints.txt is unchanged" >&2; exit 1; \
	fi && \
	cp "$$fresh/pins" constraints.txt && wc -l constraints.txt

hooks: $(STAMP) ## run `make check`'s linters before each commit
	@$(BIN)/pre-commit install

clean: ## remove the venvs and whatever is built or cached; never data/
	rm -rf $(VENV) $(VERSIONS:%=.venv-%) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* *.egg-info
	find app benchmarks migrations tests tiny_ca -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
