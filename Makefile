# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv if there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check lint types simulate mutations exhaust crash-matrix soak protections bench bench-runtime compiled docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/nightfold demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types

test: check
	$(BIN)/python -m pytest -n 3 --dist loadgroup -q

SEEDS ?= 1000
DAYS ?= 1
FIRST_SEED ?= 0
ARGS ?=
simulate: $(STAMP)
	$(BIN)/python -m tools.simulate --seeds $(SEEDS) --first-seed $(FIRST_SEED) --days $(DAYS) $(ARGS)

# All of it takes some minutes; ARGS='--level double' cuts again at every point after every cut, which takes longer.
exhaust: $(STAMP)
	$(BIN)/python -m tools.exhaustion $(ARGS)

# Real daemons on a tiny model, every fault at every operation on files: about an hour for all. It goes on where it
# stopped; ARGS='--sample 40' is a look.
crash-matrix: $(STAMP)
	$(BIN)/python -m tools.crash_matrix $(ARGS)

# One real daemon's home through everything at once, for so long; SEED draws what is done.
MINUTES ?= 20
SEED ?= 0
soak: $(STAMP)
	$(BIN)/python -m tools.soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)

# Each protection of an edge case is taken out of a copy of the house, and its tests must miss it.
protections: $(STAMP)
	$(BIN)/python -m tests.protections --write tests/protections/PROTECTIONS.md $(ARGS)

mutations: $(STAMP)
	$(BIN)/python -m tests.simulation.hunt --write tests/simulation/MUTATIONS.md

bench: $(STAMP)
	$(BIN)/python -m tools.bench.validation
	$(BIN)/python -m tools.bench.merge
	$(BIN)/python -m tools.bench.checkpoint

# The peers are installed only here: nobody else needs them. `make bench-runtime BENCH="tell ask --quick"`
# is a look at two cases; without BENCH it is all of them, and the loop's lateness while a model trains.
BENCH ?=
bench-runtime: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tools.bench.runtime $(BENCH)
	$(if $(BENCH),,$(BIN)/python -m tools.bench.loop_lag)

# A copy of the checkout, tests too, whose hot paths are compiled; `cd build/compiled && ../../.venv/bin/python -m pytest`.
compiled: $(STAMP)
	$(BIN)/python -m tools.compiling build/compiled

docs: $(STAMP)
	$(BIN)/python -m tools.message_flow --write ARCHITECTURE.md
	$(BIN)/python -m tools.edge_cases --write ARCHITECTURE.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
