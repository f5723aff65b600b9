# make demo   trains on the built-in phrasebook and translates: minutes on two cores, no network after the installation
# make test   runs every check; make test-slow runs the long ones too
# Needs Python 3.11 or newer, git and make. Everything is installed into .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.demo
	$(BIN)/vitrail demo

test: lint
	$(BIN)/python -m pytest -n auto

test-slow: lint
	$(BIN)/python -m pytest -n auto -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# A stamp a set of requirements: the second call finds it newer than what it depends on and installs nothing.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV)
