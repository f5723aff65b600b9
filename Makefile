# make demo   trains on the built-in phrasebook and translates: minutes on two cores, no network after the installation
# make docs   builds the pages and the reference into docs/_build/html; warnings are errors
# make measure  measures the sources against their aims; make equal COMMIT=x compares results and speed with a commit
# make lock, make sbom, make audit   pin what is installed by hash, list it, and look it up (SECURITY.md)
# make test   runs every check; make test-slow runs the long ones too
# Needs Python 3.11 or newer, git and make. Everything is installed into .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

TOOLS := $(VENV)-tools
LOCK := requirements.lock

.PHONY: demo test test-slow lint docs measure equal clean lock sbom audit

demo: $(VENV)/.demo
	$(BIN)/vitrail demo

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: lint
	$(BIN)/python -m pytest -n auto --dist loadfile -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests tools
	$(BIN)/ruff format --check src tests tools
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python tools/javascript/check.py

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html

measure: $(VENV)/.dev
	$(BIN)/python tools/measure.py

equal: $(VENV)/.dev
	$(BIN)/python tools/equal.py $(COMMIT)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What is released is installed by hash: requirements.lock holds all of it but torch, whose build is the user's choice.
# The packages in it are at least seven days old: a stolen account is mostly noticed sooner.
lock: | $(TOOLS)
	$(TOOLS)/bin/uv pip compile pyproject.toml tools/torch-needs.in --override tools/no-torch.in --no-emit-package torch \
	  --constraint constraints.txt --universal --python-version 3.11 --exclude-newer "7 days" --generate-hashes --no-annotate --no-header \
	  --quiet --output-file $(LOCK)

# A list, in the CycloneDX form, of what the lock holds: published with a release.
sbom: | $(TOOLS)
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements $(LOCK) --pyproject pyproject.toml --output-reproducible --output-file dist/vitrail.cdx.json

# Fails when a package is known to be vulnerable, and as well when one could not be looked up.
audit: | $(TOOLS)
	$(TOOLS)/bin/python tools/audit.py $(LOCK)

$(TOOLS):
	$(PYTHON) -m venv $@
	$@/bin/python -m pip --disable-pip-version-check install --quiet uv pip-audit cyclonedx-bom

# A stamp a set of requirements: the second call finds it newer than what it depends on and installs nothing.
$(VENV)/.demo: pyproject.toml constraints.txt $(LOCK) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) --require-hashes --only-binary :all: --no-deps --requirement $(LOCK)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) $(TOOLS)
