# make demo   the whole loop on real data, from nothing (about 10 minutes on 2 cores)
# make test   every check and test, from nothing
# make help   the rest

PYTHON ?= python3
CXX ?= c++
VENV ?= .venv
JOBS ?= 2

BIN := $(VENV)/bin
READY := $(VENV)/.ready
NATIVE := $(shell find native -type f)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export CXX PYTHON VENV
# Hundreds of Python processes start in a test run: bytecode is kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check native-test bench bench-features bench-state bench-training bench-compiler bench-serving docs clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make the virtual environment and build the package into it.

demo: $(READY) ## Run the whole loop on MovieLens-100k; ends with demo/index.html.
	@$(BIN)/python examples/movielens/demo.py

test: check native-test ## Checks, native tests under sanitizers, Python tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow"

test-slow: $(READY) ## The slow proofs: crash, parity under load, the demo in full.
	$(BIN)/python -m pytest -m slow

check: $(READY) ## Style, types, layers.
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

native-test: $(READY) ## The native state's test under address, undefined-behaviour and thread sanitizers.
	@scripts/setup.sh sanitize
	@set -e; for sanitizers in address,undefined thread; do echo "== -fsanitize=$$sanitizers"; folder=build/sanitize-$${sanitizers%%,*}; \
	  $(BIN)/cmake -S . -B $$folder -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	    -DCMAKE_BUILD_TYPE=Debug -DBOWERBIRD_SANITIZE=$$sanitizers; \
	  $(BIN)/cmake --build $$folder; \
	  $(BIN)/ctest --test-dir $$folder --output-on-failure; done

bench: $(READY) ## The measurements, one script per claim; ends with docs/benchmarks.md.
	@set -e; for name in replay no_leak accuracy parity latency summary; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

bench-features: $(READY) ## Point-in-time features against DuckDB and Polars (about 25 minutes on 2 cores).
	@$(PIP) install --no-compile --editable '.[bench]'
	$(BIN)/python -m bench.features
	$(BIN)/python -m bench.features_growth

bench-state: $(READY) ## Live state: reads beside a writer, partitions, recovery, crashes (about 30 minutes on 2 cores).
	@set -e; for name in state_live state_partitions state_recovery crashes; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

bench-training: $(READY) ## Training against FuxiCTR and plain PyTorch, tables against hash maps, KuaiRand (hours on 2 cores).
	@$(PIP) install --no-compile --editable '.[bench]'
	@bench/peers/fuxictr.sh
	@set -e; for name in training_equal training_speed tables training_frappe training_frappe_best training_daily; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done
	$(BIN)/python -m bench.accuracy --look-at-test

bench-compiler: $(READY) ## The staging compiler against runtimes, tiled and staged (hours on one core).
	@$(PIP) install --no-compile --editable '.[bench-compiler]'
	@set -e; for name in compiler pair_kernels compiler_fields; do echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

bench-serving: $(READY) ## Whole requests against LitServe, BentoML and Ray Serve; overload; swaps; processes (about 20 minutes on 2 cores).
	@$(PIP) install --no-compile --editable '.[bench-serving]'
	@bench/peers/serving.sh
	@set -e; for name in serving serving_overload serving_swaps serving_deltas serving_memory table_start; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

docs: $(READY) ## Write docs/reference from docstrings, commands, settings and the API.
	$(BIN)/python docs/generate.py

clean: ## Remove what was built; data and demo stay.
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	@scripts/setup.sh tools
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(VENV)/bin/python
	@echo "Installing PyTorch"
	@scripts/setup.sh torch
	@touch $@

$(READY): pyproject.toml CMakeLists.txt $(NATIVE) | $(VENV)/.torch
	@scripts/setup.sh tools
	@echo "Building and installing Bowerbird"
	@$(PIP) install --no-compile cmake ninja --editable '.[dev]'
	@touch $@
