# One entry for everything: `make` lists the targets. Nothing here needs more than Python 3.11 with venv, git and make.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv/bin
# containers set it: every process of `make test` would compile all of its modules again
unexport PYTHONDONTWRITEBYTECODE
ARGS ?=
# two more than there are cores: tests mostly wait
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); n=$$((n + 2)); [ $$n -gt 4 ] && n=4; echo $$n)

# The newest Python that works (a pyenv shim may be there and fail); only asked when a target needs it.
CANDIDATES := $(PYTHON) $(VENV)/python python3.13 python3.12 python3.11 python3.14 python3 python
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
FIND_PYTHON = python=; for p in $(CANDIDATES); do "$$p" -c '$(IS_NEW_ENOUGH)' >/dev/null 2>&1 && python=$$p && break; done; \
	[ -n "$$python" ] || { echo "setup: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3.12 $@" >&2; exit 1; }
SETUP = $(FIND_PYTHON); "$$python" -m fluidcrew.setup_env

LOCK = $(VENV)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock" $(UPGRADE)
SERVICES := gateway planner executor feedback publisher rag

.PHONY: help setup setup-dev demo up down test test-fast lint fmt type verify lock clean init-env api-run task-plan-start bench eval doctor \
	test-browser leaks chaos chaos-long cluster drill validate validate-strict

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

setup: ## make the virtual environment (runtime)
	@$(SETUP) runtime

setup-dev:
	@$(SETUP) dev

demo: ## from nothing to a finished run: install, start, plan, run, show, stop
	@began=$$(date +%s.%N); $(FIND_PYTHON); case $$began in *[!0-9.]*) began=$$("$$python" -c 'import time; print(time.time())');; esac; \
		"$$python" -m fluidcrew.setup_env runtime --starting && FLUIDCREW_BEGAN=$$began $(VENV)/fluidcrew demo $(ARGS)

up: ## start everything and keep it running (Ctrl-C drains and stops); ARGS="--scale executor=2"
	@$(SETUP) runtime --starting
	@$(VENV)/fluidcrew up $(ARGS)

api-run: up ## the predecessor's name for `up`

down: setup ## stop the stack that runs in the data directory
	@$(VENV)/fluidcrew down

doctor: ## look whether this machine can run Fluidcrew; downloads and starts nothing
	@$(FIND_PYTHON); if [ -f $(VENV)/../fluidcrew-stamp.json ]; then $(VENV)/fluidcrew doctor; else "$$python" -m fluidcrew.preflight; fi

init-env: ## make .env from .env.example (never overwrites)
	@if [ -e .env ]; then echo ".env is there already; nothing changed"; else install -m 600 .env.example .env && echo "made .env"; fi

task-plan-start: setup ## create a task, plan it, assign its nodes and start the run on the running stack; TITLE="…"
	@$(VENV)/fluidcrew run "$${TITLE:-Write a short launch plan for a newsletter}" --use-supervisor --watch $(ARGS)

test: setup-dev lint type verify ## everything CI runs; half of what kills whole processes by turns, TEST_HALF=all CHAOS_HALF=all all of it
	@TEST_HALF=$${TEST_HALF:-auto} $(VENV)/python -m pytest -n $(WORKERS) $(ARGS)

test-fast: setup-dev ## the tests that need no server
	@$(VENV)/python -m pytest -q tests/contracts tests/*/test_domain*.py $(ARGS)

chaos: setup-dev ## kill everything, seeded, and let outside witnesses judge (10 minutes); SEED=7 repeats one
	@seed=$${SEED:-$$(date +%s)}; $(VENV)/python -m tests.chaos --seed $$seed $(ARGS) && $(VENV)/python -m tests.chaos.control_group --seed $$seed

chaos-long: setup-dev ## the same for hours, every protection taken out once, and the object store away for a minute
	@seed=$${SEED:-$$(date +%s)}; $(VENV)/python -m tests.chaos --long --seed $$seed $(ARGS) && $(VENV)/python -m tests.chaos.control_group --all --seed $$seed \
		&& $(VENV)/python -m tests.chaos.without_store

cluster: setup-dev ## three NATS servers with R3 streams, each killed in turn during 50 runs; SEED=7
	@$(VENV)/python -m tests.chaos.cluster $(ARGS)

drill: setup ## kill workers, gateway and broker in the middle of a run, and see what is lost
	@$(VENV)/fluidcrew drill $(ARGS)

validate: setup ## check the sidecars in .runs (RUNS_ROOT) against their format; ARGS="--since 1h", ARGS=path
	@$(VENV)/fluidcrew validate $(ARGS)

validate-strict: setup ## the same, and refuse what is deprecated
	@$(VENV)/fluidcrew validate --strict $(ARGS)

lint: setup-dev ## style and import contracts
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/lint-imports

fmt: setup-dev ## format, and fix what can be fixed
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

type: setup-dev ## types
	@$(VENV)/mypy

verify: setup-dev ## compare what is generated with its sources; fail on a difference
	@$(VENV)/python -m scripts.generate --check

test-browser: setup-dev ## previews in the machine's Chromium (CHROMIUM names another): they work, and are isolated
	@$(VENV)/uv pip install --quiet --python $(VENV)/python --require-hashes -r requirements/browser.txt
	@TEST_BROWSER=1 $(VENV)/python -m pytest -n 2 tests/browser $(ARGS)

leaks: setup-dev ## 10,000 searches under random rights: does a passage leave that its reader may not see?
	@LEAK_QUERIES=10000 $(VENV)/python -m pytest tests/rag/test_rights.py $(ARGS)

bench: setup-dev ## the figures of docs/benchmarks.md, against Celery, DBOS, LangGraph, Chroma and LangChain; ARGS="--quick" measures less
	@$(VENV)/python -m bench $(ARGS)

eval: setup-dev ## how well search finds, through HTTP, on collections with known answers; ARGS="--only cnil-fr", EVAL_DATA=folder
	@$(VENV)/python -m bench.retrieval $(ARGS)

lock: setup-dev ## lock every group with hashes; UPGRADE=--upgrade for newer versions
	@$(LOCK) --group bootstrap -o requirements/bootstrap.txt
	@$(LOCK) --group dev pyproject.toml -o requirements/dev.txt
	@for peer in celery dbos langgraph chroma langchain; do \
		$(LOCK) bench/peers/$$peer/requirements.in -o bench/peers/$$peer/requirements.txt || exit 1; done
	@$(LOCK) --no-deps --group embedding -o requirements/embedding.txt
	@for group in runtime browser $(SERVICES); do \
		$(LOCK) --group $$group -c requirements/dev.txt pyproject.toml -o requirements/$$group.txt || exit 1; done

clean: ## remove the virtual environment and caches; data stays, and what root has in /var/lib/fluidcrew is named
	@if [ -d /var/lib/fluidcrew ]; then $(FIND_PYTHON); "$$python" -m deploy.local.shared; fi
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
