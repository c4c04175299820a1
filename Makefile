# Two commands matter: `make retrain` and `make test`. Everything is fetched and built on the way.

.DEFAULT_GOAL := help
.PHONY: help setup build programs retrain test chaos lint bench clean
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The programs of `make retrain` are those that the tests start: one build serves both commands, and our own
# invariants are checked in every run. `make build` makes the release programs for machines that only run them.
COORD := $(TARGET)/debug/coord

# The sample captures of `make retrain` without DATA.
SAMPLE := .coord/sample
SAMPLE_SEED := 7
SAMPLE_MINUTES := 4

# Settings of `make retrain`. Relative paths start at the folder the command was typed in (also with `make -C`).
DATA ?=
DATASETS ?=
OUTPUT ?=
ARGS ?=
# Seconds of faults of `make chaos`.
CHAOS_S ?= 600
CALLER := $(or $(PWD),$(CURDIR))
export DATA OUTPUT CALLER

help: ## this list
	@echo 'make retrain   retrain what is stale, on this machine (sample captures)'
	@echo '               DATA=folder  DATASETS="hcrl_sa set_01"  OUTPUT=folder  ARGS="--force"'
	@echo 'make test      every test'
	@echo 'make build     the release programs: coord, node-agent, trainer'
	@echo 'make setup     only fetch what is needed (libtorch, nats-server) into .deps'
	@echo 'make lint      format, clippy, licences and bans'
	@echo 'make chaos     servers, agents, network and store broken at random for 10 minutes (CHAOS_S=600, SEED=n)'
	@echo 'make bench     the benchmarks'
	@echo 'make clean     remove build products; .deps, .coord and outputs stay'

setup:
	@$(PYTHON) scripts/setup.py

build:
	@$(PYTHON) scripts/setup.py --quiet
	@$(CARGO) build --release -p coordinator -p node-agent -p trainer

programs:
	@$(PYTHON) scripts/setup.py --quiet
	@$(CARGO) build --workspace --bins

# Made beside and renamed, so that an interrupted run leaves no half sample.
$(SAMPLE): | programs
	@rm -rf $@.new && mkdir -p $(dir $@)
	@$(COORD) data sample --seed $(SAMPLE_SEED) --minutes $(SAMPLE_MINUTES) $@.new
	@mv $@.new $@

retrain: programs $(if $(DATA),,| $(SAMPLE))
	@absolute() { (cd "$$CALLER" && realpath -m -- "$$1"); }; \
	data=$$(absolute "$${DATA:-$(CURDIR)/$(SAMPLE)}") && \
	output=$$(absolute "$${OUTPUT:-$(CURDIR)/outputs/retraining}") && \
	exec $(COORD) local run --data "$$data" $(if $(DATASETS),--datasets $(DATASETS)) --output-dir "$$output" $(ARGS)

# The programs are built too, because some tests start them; in one command with the tests, so that both
# see the same features of each dependency and nothing is built twice.
test:
	@$(PYTHON) scripts/setup.py --tests --quiet
	@$(PYTHON) scripts/tests/test_deps.py
	@$(CARGO) build --workspace --bins --tests
	@$(CARGO) test --workspace

lint:
	@$(PYTHON) scripts/setup.py --lint --quiet
	@$(CARGO) fmt --all --check
	@.deps/bin/cargo-deny --all-features --log-level warn check bans licenses sources
	@$(CARGO) clippy --workspace --all-targets -- -D warnings

# `make test` has a minute of it. SEED repeats a run that failed.
chaos:
	@$(PYTHON) scripts/setup.py --tests --quiet
	@$(CARGO) build --workspace --bins --tests
	@COORD_CHAOS_S=$(CHAOS_S) $(if $(SEED),COORD_CHAOS_SEED=$(SEED)) \
	    $(CARGO) test --workspace --test chaos -- --nocapture every_job

bench:
	@$(PYTHON) scripts/setup.py --quiet
	@$(CARGO) build --workspace --release --bins
	@$(CARGO) bench --workspace --benches

clean:
	@$(CARGO) clean
