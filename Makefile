# The commands of this project: `make demo` and `make test` set everything up, on a machine that has only Python 3.11.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench dist clean

# The first Python that is new enough; name another with `make PYTHON=...`.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help:  ## List these commands
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 12

demo: $(INSTALLED)  ## From channel-access logs to a comparison table and figure, about a minute
	@$(BIN)/rllib-wireless reproduce fedmorl --scale demo --out results/fedmorl-demo

test: lint  ## Linters, types and tests: what a contributor keeps green
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(INSTALLED)  ## Ruff and mypy
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy

docs: $(INSTALLED)  ## Build the site into site/
	@$(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)  ## Speed as ratios against named peers
	@$(BIN)/rllib-wireless bench --out results/bench

dist: $(INSTALLED)  ## Build wheel and sdist into dist/, and check both
	@rm -rf dist
	@$(BIN)/python -m hatchling build --directory dist
	@$(BIN)/twine check --strict dist/*

clean:  ## Remove what the other commands made, but for results/
	@rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# One pip run under constraints, so that everyone has the same versions; only anew when one of the two files changes.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev,docs]'
	@touch $@
