# What people do with the project. `make demo` and `make check` need nothing before them.

SHELL := /bin/bash
BIN := .venv/bin
PY := $(BIN)/python
# Many tests mostly wait. A file's tests stay together: they share what they started.
SIDE_BY_SIDE := -n 2 --dist loadfile
.DEFAULT_GOAL := help
.PHONY: hostile red-team simulation tampering help setup demo check check-embedded static services format lint types contracts test faults docs \
        docs-check bench-docs pictures requirements clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | column -t -s '|'

setup: .venv/.ready ## .venv with everything pinned, and Doorward in it

.venv/.ready: requirements/dev.txt pyproject.toml tools/setup.sh
	@tools/setup.sh

demo: setup ## a utility on this machine: CCS, gateways, homes and an energy manager (Ctrl-C ends it)
	@$(BIN)/doorward demo

# pytest comes last, so that its closing line is the last one.
check: setup services static ## everything, on every engine (installs PostgreSQL and Mosquitto if missing)
	@$(BIN)/pytest $(SIDE_BY_SIDE)

check-embedded: setup static ## everything that needs neither PostgreSQL nor Mosquitto
	@DOORWARD_TEST_ENGINES=embedded $(BIN)/pytest $(SIDE_BY_SIDE)

services: setup ## PostgreSQL and Mosquitto for the tests, if they are missing
	@tools/ensure_services.sh

static: lint types contracts docs-check ## all checks that run nothing

format: setup ## bring the code into shape
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lint: setup ## style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: setup ## mypy --strict
	@$(BIN)/mypy

contracts: setup ## who may import whom
	@$(BIN)/lint-imports

test: setup ## pytest on what is here: ARGS="tests/wire -k codec"
	@$(BIN)/pytest $(ARGS)

red-team: setup ## a malicious CCS with all its keys sends 100,000 commands to a real gateway
	@DOORWARD_RED_TEAM_COMMANDS=100000 DOORWARD_TEST_ENGINES=embedded $(BIN)/pytest tests/system/test_authority.py

simulation: setup ## every planted bug is looked for in worlds of virtual time
	@DOORWARD_SIMULATION=full $(BIN)/pytest $(SIDE_BY_SIDE) tests/simulation

faults: setup services ## real processes are killed, frozen, cut off …: ARGS="--quick --only kills --json"
	@tools/ensure_fault_tools.sh
	@$(PY) -m doorward.simulate.faults $(ARGS)

tampering: setup ## thousands of changes to a real record, each found by an audit and named
	@DOORWARD_TAMPERINGS=100 $(BIN)/pytest tests/system/test_audit.py -k tampering

hostile: setup ## what a minute of tests cannot: a thousand slow clients, long fuzzing of the API and decoders
	@DOORWARD_SLOW_CLIENTS=1000 DOORWARD_FUZZ_S=300 DOORWARD_FUZZ_EXAMPLES=2000 \
	  $(BIN)/pytest tests/security/test_slow_clients.py tests/security/test_api_fuzz.py tests/security/test_decoders.py

docs: setup ## write docs/reference anew from the code
	@$(PY) -m tools.reference

docs-check: setup ## whether docs/reference is what the code says
	@$(PY) -m tools.reference --check

bench-docs: setup services ## measure docs/performance.md anew (ARGS="--only sqlite"; a quiet machine, half an hour)
	@$(PY) -m tools.performance $(ARGS)

pictures: setup ## draw docs/pictures anew from a running demo
	@$(PY) -m tools.pictures

requirements: setup ## compile the pinned, hashed sets anew (UPGRADE=1 takes the newest releases)
	@for set in base dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements" \
	    $(if $(UPGRADE),--upgrade) requirements/$$set.in --output-file requirements/$$set.txt || exit 1; \
	done

clean: ## away with everything that can be made again
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
