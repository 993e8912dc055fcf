# Every target is idempotent, and quick when nothing changed.
PYTHON ?= python3
# More arguments for pip, such as a package index that serves the CPU build of PyTorch.
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test endurance check bench clean

demo: $(VENV)/.demo
	$(BIN)/raymlops demo

test: $(VENV)/.test
	./tests/setup-servers
	./tests/run

endurance: $(VENV)/.test
	./tests/setup-servers
	./tests/run endurance

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "raymlops needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev,tensorflow-cpu]'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --no-deps tf-keras
	touch $@ $(VENV)/.demo
