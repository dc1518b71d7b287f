# make demo   the whole loop on real data, from nothing (about 10 minutes on 2 cores)
# make test   every check and test, from nothing
# make help   the rest

PYTHON ?= python3
CXX ?= c++
VENV ?= .venv
# Tests of servers wait: one more than cores.
CORES := $(shell getconf _NPROCESSORS_ONLN)
JOBS ?= $(shell expr $(CORES) + 1)
# Make 3 does not know it.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

BIN := $(VENV)/bin
READY := $(VENV)/.ready
NATIVE := $(shell find native -type f)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export CXX PYTHON VENV
# Hundreds of Python processes start in a test run: bytecode is kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check native-test sanitize-address sanitize-thread arm-test bench bench-features bench-state bench-training bench-compiler bench-serving docs clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make the virtual environment and build the package into it.

demo: $(READY) ## Run the whole loop on MovieLens-100k; ends with demo/index.html.
	@$(BIN)/python examples/movielens/demo.py

test: $(READY) ## Checks, native tests under sanitizers, Python tests.
	@$(MAKE) --no-print-directory $(SYNC) -j 3 check native-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow"

test-slow: $(READY) ## The slow proofs: crash, parity under load, the demo in full.
	$(BIN)/python -m pytest -m slow

check: $(READY) ## Style, types, layers.
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

native-test: sanitize-address sanitize-thread ## The native core's tests under address, undefined-behaviour and thread sanitizers.

sanitize-address: SANITIZERS = address,undefined
sanitize-thread: SANITIZERS = thread
sanitize-address sanitize-thread: sanitize-%: $(READY) build/.sanitize-ready
	@echo "== -fsanitize=$(SANITIZERS)"
	@$(BIN)/cmake -S . -B build/$@ -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DCMAKE_BUILD_TYPE=Debug -DBOWERBIRD_TESTS=ON -DBOWERBIRD_SANITIZE=$(SANITIZERS)
	@$(BIN)/cmake --build build/$@ --parallel $(CORES)
	@$(BIN)/ctest --test-dir build/$@ --output-on-failure

arm-test: $(READY) ## The native core's tests for 64-bit ARM, under an emulator.
	@scripts/setup.sh arm
	@$(BIN)/cmake -S . -B build/arm -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DCMAKE_BUILD_TYPE=Release -DBOWERBIRD_TESTS=ON -DCMAKE_TOOLCHAIN_FILE=$(abspath scripts/arm.cmake)
	@$(BIN)/cmake --build build/arm --parallel $(CORES)
	@$(BIN)/ctest --test-dir build/arm --output-on-failure --timeout 3600

build/.sanitize-ready:
	@scripts/setup.sh sanitize
	@mkdir -p build && touch $@

bench: $(READY) ## The measurements, one script per claim; ends with docs/benchmarks.md.
	@set -e; for name in replay no_leak accuracy parity serving.latency summary; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

bench-features: $(READY) ## Point-in-time features against DuckDB and Polars (about 25 minutes on 2 cores).
	@$(PIP) install --no-compile --editable '.[bench]'
	$(BIN)/python -m bench.features
	$(BIN)/python -m bench.features.growth

bench-state: $(READY) ## Live state: reads beside a writer, partitions, recovery, crashes (about 30 minutes on 2 cores).
	@set -e; for name in state.live state.partitions state.recovery state.crashes state.ingest_http; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

bench-training: $(READY) ## Training against FuxiCTR and plain PyTorch, tables against hash maps, KuaiRand (hours on 2 cores).
	@$(PIP) install --no-compile --editable '.[bench]'
	@bench/peers/fuxictr.sh
	@set -e; for name in training.equal training.speed tables training.frappe training.frappe_best training.daily; do \
	  echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done
	$(BIN)/python -m bench.accuracy --look-at-test

bench-compiler: $(READY) ## The staging compiler against runtimes, tiled and staged (hours on one core).
	@$(PIP) install --no-compile --editable '.[bench-compiler]'
	@set -e; for name in compiler compiler.pair_kernels compiler.fields; do echo "== python -m bench.$$name"; $(BIN)/python -m bench.$$name; done

bench-serving: $(READY) ## Whole requests against LitServe, BentoML and Ray Serve; overload; swaps; processes; a soak (about an hour on 2 cores).
	@$(PIP) install --no-compile --editable '.[bench-serving]'
	@bench/peers/serving.sh
	$(BIN)/python -m bench.serving --processes 2
	@set -e; for name in serving serving.overload serving.swaps serving.deltas serving.memory tables.start serving.soak; do \
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
