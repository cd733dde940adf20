# Everything that a fresh machine needs is made here: Python >= 3.11, make and the package registries are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

# A Ray starts a dozen Pythons, each of which would compile anew all that it imports: three times the CPU of a start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml ampd_ray/datasets/evm/_native.c
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 14)))' \
		|| { echo "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing ampd-ray and what it needs into $(VENV) (about a minute) ..."
	@rm -f ampd_ray/datasets/evm/_native*.so  # else a build that fails leaves the old one
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[solo,notebook,test]'
	@$(BIN)/python -c 'from ampd_ray.datasets.evm import native; native.available or print("no compiler, or no Python.h:" \
		" the extension was not built, and extraction takes three times the CPU")'
	@touch $(STAMP)

.PHONY: install
install: $(STAMP)  ## Make .venv with everything in it

.PHONY: demo
demo: $(STAMP)  ## Run the main job end to end against a local chain (DATA=s3://bucket/prefix)
	@$(BIN)/ampd demo $(if $(DATA),--data $(DATA))

.PHONY: test
test: $(STAMP)  ## Run all checks and all tests, of the long tiers a short seed
	@$(MAKE) --no-print-directory --jobs=3 lint imports anvil debian
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target types $(TESTS)

# Four at a time, since most tests wait for something; whoever is done takes the next, so the longest come first. Each
# starts servers and ports of its own. What of end_to_end matches neither pattern runs twice.
TESTS := test-early test-postgres test-late test-chaos test-materialize test-ray test-simulator test-unit
.PHONY: $(TESTS)
test-early: $(STAMP)
	$(PYTEST) tests/end_to_end --ignore-glob='tests/end_to_end/test_[o-z]*'
test-late: $(STAMP)
	$(PYTEST) tests/end_to_end --ignore-glob='tests/end_to_end/test_[a-n]*'
test-postgres: $(STAMP)
	$(PYTEST) tests/postgres --ignore=tests/postgres/materialize
test-materialize: $(STAMP)
	$(PYTEST) tests/postgres/materialize
test-chaos: $(STAMP)
	$(PYTEST) tests/chaos tests/benchmarks
test-ray: $(STAMP)
	$(PYTEST) tests/ray
test-simulator: $(STAMP)
	$(PYTEST) tests/simulator
test-unit: $(STAMP)
	$(PYTEST) tests/unit tests/deployment

.PHONY: unit
unit: $(STAMP) anvil  ## Run the unit tests: no Ray, no Postgres, seconds
	$(PYTEST) tests/unit

.PHONY: lint
lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP)  ## Check types, strictly
	$(BIN)/mypy

.PHONY: imports
imports: $(STAMP)  ## Check who imports whom
	$(BIN)/lint-imports

.PHONY: docs
docs: $(STAMP)  ## Write docs/reference anew from the code
	@$(BIN)/python -m tests.docs

.PHONY: anvil
anvil: $(STAMP)  ## Fetch the Ethereum node that some tests use
	@$(BIN)/python tests/install_anvil.py

.PHONY: debian
debian: $(STAMP)  ## Fetch the programs of Debian's that some tests use, where its packages can be had
	-@$(BIN)/python tests/install_debian.py

.PHONY: simulate
simulate: $(STAMP)  ## Long: real jobs and SQL under a seeded scheduler (SEEDS=20000)
	@$(BIN)/python -m tests.simulator --seeds $${SEEDS:-20000}

.PHONY: chaos
chaos: $(STAMP)  ## Long: real workers under kills, pauses, cut cables and failpoints (SEEDS=100, FIRST=1)
	@$(BIN)/python -m tests.chaos --seeds $${SEEDS:-100} --first $${FIRST:-1}

.PHONY: chaos-nodes
chaos-nodes: $(STAMP)  ## Long: a Ray node lost each 20 s, amid each stage, with and without notice (MINUTES=10, SEED=1)
	@$(BIN)/python -m tests.chaos.losses --minutes $${MINUTES:-10} --seed $${SEED:-1}

.PHONY: failover
failover: $(STAMP)  ## Long: how soon a job goes on elsewhere, a worker drains, a database comes back (RUNS=100)
	@$(BIN)/python -m tests.benchmarks.failover takeover --kills $${RUNS:-100}
	@$(BIN)/python -m tests.benchmarks.failover sigterm --runs $${RUNS:-100}
	@$(BIN)/python -m tests.benchmarks.failover pairs --runs $${RUNS:-100}
	@$(BIN)/python -m tests.benchmarks.restarts --times $${RUNS:-50}

.PHONY: idle
idle: $(STAMP)  ## Long: all cores busy with something else, nobody may be taken over (MINUTES=60)
	@$(BIN)/python -m tests.benchmarks.failover idle --minutes $${MINUTES:-60}

.PHONY: fuzz
fuzz: $(STAMP)  ## Long: spoil recorded answers of nodes, and look what becomes of them (COUNT=100000)
	@$(BIN)/python -m tests.benchmarks.fuzz --count $${COUNT:-100000}

.PHONY: fuzz-native
fuzz-native: $(STAMP)  ## Long: spoil blocks for the compiled path, with and without sanitizers (COUNT=1000000)
	@$(BIN)/python -m tests.benchmarks.fuzz_native --count $${COUNT:-1000000}
	@$(BIN)/python -m tests.benchmarks.fuzz_native --count $${COUNT:-1000000} --seed 2 --sanitize

.PHONY: bench
bench: $(STAMP)  ## Long: blocks/s, CPU and memory on a mainnet-like load, beside cryo and ethereum-etl (ROUNDS=3, BLOCKS=5000)
	@$(BIN)/python -m tests.benchmarks.backfill --rounds $${ROUNDS:-3} --blocks $${BLOCKS:-5000}

.PHONY: bench-stages
bench-stages: $(STAMP)  ## What each stage of a block's way costs alone: fetch, parse, check, columns, Parquet, commit ...
	@$(BIN)/python -m tests.benchmarks.stages

.PHONY: bench-head
bench-head: $(STAMP)  ## Long: how soon a new block is committed, also above 100,000 files, and a job runs (BLOCKS=120)
	@$(BIN)/python -m tests.benchmarks.head --blocks $${BLOCKS:-120}

.PHONY: bench-scale
bench-scale: $(STAMP)  ## Long: cost at scale: blocks, extractors, jobs at once, statements a segment (BLOCKS="1000 20000 200000")
	@$(BIN)/python -m tests.benchmarks.scale --blocks $${BLOCKS:-1000 20000 200000}

.PHONY: bench-autoscale
bench-autoscale: $(STAMP)  ## Long, as root: a cluster that grows by our demand and shrinks again (NODES=4, BLOCKS=60000)
	@$(BIN)/python -m tests.benchmarks.autoscale --most $${NODES:-4} --blocks $${BLOCKS:-60000}
	@$(BIN)/python -m tests.benchmarks.autoscale --most $${NODES:-4} --blocks 1200 --per-minute 600 --latency-ms 100

.PHONY: bench-cluster
bench-cluster: $(STAMP)  ## Long: one job over four raylets, with 1, 2 and 4 extractors, beside the ideal (BLOCKS=6000)
	@$(BIN)/python -m tests.benchmarks.cluster --blocks $${BLOCKS:-6000}

.PHONY: bench-plan
bench-plan: $(STAMP)  ## How good a plan is: what ampd backfill --plan says, against what the same takes then
	@$(BIN)/python -m tests.benchmarks.plan

.PHONY: bench-store
bench-store: $(STAMP)  ## Long: files to an S3 server, a fifth of all requests spoilt: lost, twice, left over, MB/s (PUTS=10000)
	@$(BIN)/python -m tests.benchmarks.objects --puts $${PUTS:-10000} --share 0.2
	@$(BIN)/python -m tests.benchmarks.objects --puts $${PUTS:-10000} --share 0
	@$(BIN)/python -m tests.benchmarks.objects --puts 50 --large-every 1 --share 0.2

.PHONY: rehearse
rehearse: $(STAMP)  ## Long, as root: what the files to deploy by start, as a cluster in namespaces of this machine
	@$(BIN)/python -m tests.deployment.rehearsal

.PHONY: clean
clean:  ## Remove what these targets made
	rm -rf $(VENV) .amp .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
