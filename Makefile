# What one does with this checkout. `make` alone lists it.
SHELL := /bin/bash
BIN := .venv/bin
PYTEST_ARGS ?=
# Most tests wait for programs for half of their time.
PYTEST_WORKERS ?= $(shell echo $$(($$(nproc) + 2)))
CHAOS_ARGS ?=
HOSTILE_ARGS ?=
LOCK_ARGS ?=
# Compiled once: tests start hundreds of processes, and to compile all modules takes each of them half a second.
export PYTHONDONTWRITEBYTECODE :=
export NODE_COMPILE_CACHE := $(CURDIR)/.venv/.node-cache

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo lint test test-all coverage compat bench chaos hostile dist lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian's packages, and .venv from the lock file
	@scripts/setup

demo: setup ## record 20 s of the built-in meeting through the REST API
	@$(BIN)/farm demo

lint: setup ## ruff and mypy, both strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup-tests:
	@scripts/setup tests

# Most tests wait for real programs, so several run at once; what measures runs alone, after them. What
# takes long is in `test-all` (docs/architecture.md, Tests). A part of the suite may well be in some of these
# only, and pytest ends with 5 when it finds none. All tests of a file run in one process, which opens what they
# share once; tests/conftest.py says which files begin first.
# The cases for Schemathesis are made while tests are collected, which takes as long as to collect all others.
FEWER = --ignore=tests/api/test_schemathesis.py -p no:schemathesis
TOGETHER = -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder
LONG_TOGETHER = -n auto --dist worksteal
# Those that are exact are in a few files; to collect all others takes as long as some of them.
EXACT = $(if $(PYTEST_ARGS),,$(shell grep -rl --include='test_*.py' 'mark\.exact' tests))
OR_NONE = $(if $(PYTEST_ARGS),|| test $$? -eq 5)
# A part of the suite that somebody picks has no second try.
RUN = $(if $(PYTEST_ARGS),$(BIN)/pytest,scripts/run_tests)
test: setup-tests lint ## lint, then the suite without its long tests (PYTEST_ARGS="-k name" for a part)
	$(RUN) -m "not exact and not long and not soak" $(FEWER) $(TOGETHER) $(PYTEST_ARGS) $(OR_NONE)
	$(RUN) -m "exact and not long" $(FEWER) $(EXACT) $(PYTEST_ARGS) $(OR_NONE)

test-all: test ## the same, then the long ones: farms that are broken in every way, for half an hour
	$(RUN) -m "long and not exact" $(LONG_TOGETHER) $(PYTEST_ARGS) $(OR_NONE)
	$(RUN) -m "long and exact" $(FEWER) $(EXACT) $(PYTEST_ARGS) $(OR_NONE)

# What is not measured here is what `test-all` alone runs. Measuring slows the programs down, so what is exact is left out.
coverage: setup-tests ## which lines and branches the suite runs, except its long and exact tests (.coverage/html)
	rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest -m "not exact and not long and not soak" $(FEWER) $(TOGETHER) $(PYTEST_ARGS) || true
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet --directory .coverage/html
	$(BIN)/coverage report

compat: ## try the farm with other people's software from Debian, PyPI and npm (docs/compatibility.md)
	@scripts/setup compat
	@compat/setup
	$(BIN)/pytest compat $(PYTEST_ARGS)

bench: setup ## measure fidelity, delays and load; wants a quiet machine
	$(BIN)/python -m benchmarks

chaos: setup ## 20 recordings while the farm's parts are killed at random (CHAOS_ARGS="--seed N" for one again)
	$(BIN)/python -m chaos $(CHAOS_ARGS)

hostile: setup-tests ## attack a farm while a victim records (HOSTILE_ARGS="disk memory" for some attacks)
	$(BIN)/python -m hostile $(HOSTILE_ARGS)

dist: setup ## build the wheel and the sdist of a release in dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

LOCK = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(LOCK_ARGS)
lock: setup ## write both requirements.lock again (LOCK_ARGS=--upgrade for the newest of everything)
	$(LOCK) --extra dev --extra otel -o requirements.lock pyproject.toml
	$(LOCK) --extra otel -c requirements.lock -o deploy/requirements.lock pyproject.toml deploy/build.in

clean: ## remove .venv, caches and what tests left; recordings stay
	rm -rf .venv testkit/storage/azurite/node_modules build dist test-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
