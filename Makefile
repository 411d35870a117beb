# make run    everything in one terminal: databases, backend, workers, simulators   (ARGS="--port 3002 --sim 0")
# make setup  only install, into .venv                                              (PYTHON=python3.12)
# make dashboard  build the web interface; `make run` does it by itself
# make test   style, types, import rules, then every test                           (ARGS="-k gaps")
# make check  the first half of `make test`, in under half a minute
# make sim    more seeds of the simulation than `make test` takes                   (SEEDS=20000, or SEED=17 again)
# make soak   what an open page bears: a minute of 500 entries a second, 100,000 rows
# make bench  measure; prints ratios against ceilings of the same run               (ARGS="--quick")
# make bench-query  measure reading at real size                                   (ARGS="--rows 500000")
# make lock   write requirements.lock anew from the two pyproject.toml              (ARGS="--upgrade")
# make clean  remove what was installed and cached; data in .tracehub stays

BIN := .venv/bin
SEEDS ?= 20000
export PYTHON

.PHONY: help setup dashboard run test check sim soak bench bench-query lock clean
.DEFAULT_GOAL := help

help:
	@sed -n '/^BIN/q; s/^# //p' Makefile

setup:
	@scripts/setup

dashboard: setup
	@scripts/dashboard

# Through the guard, so that everything also ends in order when `make` itself is killed.
run: dashboard
	@exec $(BIN)/python -I -S tracehub/runtime/guard.py $$PPID 15 -1 -1 $(BIN)/tracehub up $(ARGS)

# The browser has the machine for itself, or its tests would measure the others. 5 is pytest's word for "none chosen".
test: check
	@scripts/dashboard test
	@scripts/browser
	@$(BIN)/pytest tests/browser $(ARGS) || [ $$? = 5 ]
	@$(BIN)/pytest -n 2 --ignore tests/browser $(ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

sim: setup
	@SEEDS=$(SEEDS) $(BIN)/pytest -n 2 tests/simulation $(ARGS)

soak: dashboard
	@scripts/browser
	@$(BIN)/pytest -m soak $(ARGS)

bench: setup
	@$(BIN)/tracehub bench $(ARGS)

bench-query: setup
	@$(BIN)/python -m benchmarks.query $(ARGS)

lock:
	@scripts/lock $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
