# The book, its tests and its labs. `make` alone lists what there is to make.

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := .venv/installed
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses=4
COURSE ?= course

.DEFAULT_GOAL := help
.PHONY: help install book test quick lint lab release grade formgrader bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(INSTALLED) ## make .venv with the exact requirements; an environment that is there is kept and completed

.venv/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed. Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

$(INSTALLED): requirements.txt pyproject.toml | .venv/bin/python
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

book: $(INSTALLED) ## execute and build the book; again with nothing changed: seconds
	$(BIN)/jupyter-book build . -W -n --keep-going -q

test: $(INSTALLED) ## the package's tests, the labs, and the book's own checks
	$(PYTEST)

quick: $(INSTALLED) ## the tests that need no browser, sandbox, lab or training: two minutes
	$(PYTEST) -m "not slow"

lint: $(INSTALLED) ## the style of the code
	$(BIN)/ruff check --exclude '*.md' --exclude '*.ipynb'
	$(BIN)/ruff format --check --exclude '*.md' --exclude '*.ipynb'

lab: $(INSTALLED) ## open the labs in JupyterLab
	$(BIN)/jupyter lab notebooks

release: $(INSTALLED) ## pack what students need: COURSE/exercises.zip (COURSE=course)
	$(BIN)/python -m vaecourse.grading release --course "$(COURSE)"

grade: $(INSTALLED) ## grade the notebooks in a folder or zip: make grade SUBMISSIONS=... (COURSE=course)
	@test -n "$(SUBMISSIONS)" || { echo "Say where the submissions are: make grade SUBMISSIONS=folder-or-zip"; exit 1; }
	$(BIN)/python -m vaecourse.grading grade --course "$(COURSE)" "$(SUBMISSIONS)"

formgrader: $(INSTALLED) ## open formgrader, to grade written answers (COURSE=course)
	$(BIN)/python -m vaecourse.grading formgrader --course "$(COURSE)"

bench: $(INSTALLED) ## time the package beside bare loops and its peers, which it installs; time the set-up, the book, the tests
	$(PIP) -c requirements.txt --no-build-isolation -e ".[bench]"
	set -e; for benchmark in training players estimators mixture growth grading build; do \
		$(BIN)/python tests/benchmarks/$$benchmark.py; done

clean: ## remove what was built; the environment stays
	rm -rf _build .pytest_cache .hypothesis .ruff_cache
