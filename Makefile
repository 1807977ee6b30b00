# Everything that people and CI run. `make` alone prints this menu.
.DEFAULT_GOAL := help
.PHONY: help setup up down status stores demo check format test test-unit test-integration \
        test-e2e test-fault bench protos docs verify settings k8s clean ci

BIN := .venv/bin
PY := $(BIN)/python
PYTEST := $(PY) -m pytest
# What `make verify` makes again and compares with what is committed.
GENERATED := protos docs/adr/README.md docs/asyncapi.yaml docs/telemetry.md

help: ## print this menu
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { print "\n" substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-18s%s\n", $$1, $$2 }' Makefile

##@ Run it (TIMELOOM_PORT=8080 and TIMELOOM_DATA=.timeloom move it)

setup: ## make .venv from requirements.lock; nothing when it is up to date
	@sh tools/bootstrap.sh

up: setup ## start everything, print URL and API key; Ctrl-C stops it
	@exec $(PY) -m deploy.embedded up

down: setup ## stop the one that runs in TIMELOOM_DATA
	@$(PY) -m deploy.embedded down

status: setup ## say what runs in TIMELOOM_DATA
	@$(PY) -m deploy.embedded status

stores: setup ## start PostgreSQL, NATS and Valkey only
	@exec $(PY) -m deploy.embedded stores

demo: setup ## fill a running Timeloom with a realistic week
	@$(PY) -m tools.demo

settings: setup ## print every setting with its default and meaning
	@$(PY) -m tools.settings

##@ Check it

check: setup ## formatting, lint, types, import rules, protos
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint

format: setup ## format and mend what ruff can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

test: ## every test: unit, integration, e2e, fault
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-integration
	@$(MAKE) --no-print-directory test-e2e
	@$(MAKE) --no-print-directory test-fault

test-unit: setup ## pure code and fakes; seconds
	$(PYTEST) -m "not integration and not e2e and not fault"

test-integration: setup ## one part against real PostgreSQL, NATS, Valkey
	$(PYTEST) -m integration

test-e2e: setup ## the whole suite, driven from outside
	$(PYTEST) -m e2e

test-fault: setup ## processes are killed while events flow
	$(PYTEST) -m fault

bench: setup ## measure this machine; writes docs/benchmarks.md
	@$(PY) -m bench

k8s: setup ## build the manifests and validate them strictly, offline
	@$(PY) -m tools.k8s

ci: check verify test ## what CI runs

##@ Make it

protos: setup ## generate the Python of protos/
	@$(PY) -m tools.protos

docs: setup ## make the pages that are made: index of ADRs, telemetry, AsyncAPI
	@$(PY) -m tools.adr_index
	@$(PY) -m tools.telemetry_page
	@$(PY) -m tools.asyncapi

verify: protos docs ## generate again and fail when it differs from what is committed
	git diff --exit-code -- $(GENERATED)
	@test -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" || \
	  { echo "generated files are not committed:"; git ls-files --others --exclude-standard -- $(GENERATED); exit 1; }

clean: ## remove the environment and caches; data stays
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
