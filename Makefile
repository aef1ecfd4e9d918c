# The project's verbs; `make` alone lists them. Nothing is needed but Python 3.11 or newer with venv:
# packages come, by locked hashes, into .venv. Another interpreter: make PYTHON=/path/to/python3.12 ...

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
export PYTHON
# Options for `ha-tasks demo`, for instance DEMO_FLAGS=--detach; and for pytest, for instance TEST_FLAGS="-k fence -x".
DEMO_FLAGS ?=
TEST_FLAGS ?=
SOAK_FLAGS ?= --minutes 20
CALM_FLAGS ?= --minutes 30
BENCH_FLAGS ?= --rounds 5 --out failover.jsonl
DETECTOR_FLAGS ?=
SOURCES := .

.PHONY: help
help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s  %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: ## a whole platform and its guardian, on this machine; Ctrl-C ends it
	@scripts/venv demo
	@exec .venv/bin/ha-tasks demo $(DEMO_FLAGS)

.PHONY: test
test: ## everything that can be proved here within 12 minutes
	@scripts/venv dev
	@scripts/test $(TEST_FLAGS)

.PHONY: test-full
test-full: ## the same and the long trials
	@scripts/venv dev
	@scripts/test --full $(TEST_FLAGS)

.PHONY: crash-sweep
crash-sweep: ## everything is stopped at every boundary of a run (200+ trials, part of test-full)
	@scripts/venv dev
	.venv/bin/python -m pytest -v tests/crash tests/acceptance -k "whatever_dies or promotes_once" -m "" $(TEST_FLAGS)

.PHONY: soak
soak: ## recoveries at a steady rate under random kills; SOAK_FLAGS="--minutes 20 --store postgres"
	@scripts/venv dev
	.venv/bin/python -m tests.crash.soak $(SOAK_FLAGS)

.PHONY: calm
calm: ## nothing is down, much is disturbed: no failover may come of it; CALM_FLAGS="--minutes 30"
	@scripts/venv dev
	.venv/bin/python -m tests.calm $(CALM_FLAGS)

.PHONY: bench
bench: ## measurements; each prints its figures, the number of runs and the machine
	@scripts/venv dev
	.venv/bin/python -m pytest -s tests/benchmarks $(TEST_FLAGS)

.PHONY: bench-failover
bench-failover: ## ours and Patroni under the same faults; BENCH_FLAGS="--rounds 5 --systems ours --out FILE"
	@scripts/venv dev
	@scripts/patroni
	.venv/bin/python -m tests.benchmarks.failover $(BENCH_FLAGS)

.PHONY: bench-detector
bench-detector: ## failure detectors side by side on simulated probes; DETECTOR_FLAGS="--episodes 3600"
	@scripts/venv dev
	.venv/bin/python -m tests.benchmarks.detector $(DETECTOR_FLAGS)

.PHONY: lint
lint: ## ruff and the import rule
	@scripts/venv dev
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/lint-imports

.PHONY: format
format: ## let ruff rewrite what it can
	@scripts/venv dev
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

.PHONY: types
types: ## mypy --strict
	@scripts/venv dev
	.venv/bin/mypy

.PHONY: lock
lock: ## write requirements/*.lock anew; newest versions: make lock LOCK_FLAGS=--upgrade
	@scripts/lock $(LOCK_FLAGS)

.PHONY: clean
clean: ## remove caches and what tests left
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* dist
	find ha_tasks workers tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-venv
clean-venv: ## remove the Python environment
	rm -rf .venv
