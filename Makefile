# The book, its tests and its labs. `make` alone lists what there is to make.

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
HAS := .venv/has-
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses=4
COURSE ?= course

.DEFAULT_GOAL := help
.PHONY: help install book chapter test quick mutants lint lab release grade formgrader bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(HAS)book ## make .venv with what the book needs; what else needs more brings it

.venv/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed. Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making an environment in .venv with $$("$(PYTHON)" -V)"
	@"$(PYTHON)" -m venv .venv

# Each purpose is an extra of pyproject.toml; requirements.txt holds the exact versions. The loop cuts pip's flood down to what
# takes its time. What is installed already is kept.
$(HAS)%: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing what is needed for: $*. Where nothing is there yet it takes a minute or two, more on a slow line"
	@started=$$(date +%s); found=0; { $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		-c requirements.txt -e ".[$*]"; echo "exit $$?"; } | while read -r what name rest; do case "$$what $$name $$rest" in \
		"Collecting "* | "Processing "*) found=$$((found + 1)); [ $$((found % 25)) -ne 0 ] || echo "  $$found packages found" ;; \
		"Downloading "*" ("[0-9][0-9]*MB")") name=$${name##*/}; echo "  downloading $${name%%-*} $$rest" ;; \
		"Installing collected "*) set -- $$rest; echo "  installing $$(($$# - 1)) packages" ;; \
		"exit 0 ") echo "Installed in $$(($$(date +%s) - started)) s" ;; \
		"exit "*) exit $$name ;; esac; done
	@touch $@

book: $(HAS)book ## execute and build the book; again with nothing changed: seconds
	@$(BIN)/jupyter-book build . -W -n --keep-going -q > /dev/null  # what there is to say is on stderr

chapter: $(HAS)book ## begin a chapter: stubs of its five faces: make chapter NAME=08_regularizers
	@$(BIN)/python notebooks/source/new_chapter.py "$(NAME)"

test: $(HAS)test ## the package's tests, the labs, and the book's own checks
	$(PYTEST)

quick: $(HAS)test ## the tests that need no browser, sandbox, lab or training: two minutes
	$(PYTEST) -m "not slow"

mutants: $(HAS)test ## change each function that computes an equation, one thing at a time: do its tests notice?
	$(BIN)/python tests/mutants/judge.py

lint: $(HAS)test ## the style of the code
	$(BIN)/ruff check --exclude '*.md' --exclude '*.ipynb'
	$(BIN)/ruff format --check --exclude '*.md' --exclude '*.ipynb'

lab: $(HAS)lab ## open the labs in JupyterLab
	$(BIN)/jupyter lab notebooks

release: $(HAS)grading ## pack what students need: COURSE/exercises.zip (COURSE=course)
	$(BIN)/python -m vaecourse.grading release --course "$(COURSE)"

grade: $(HAS)grading ## grade the notebooks in a folder or zip: make grade SUBMISSIONS=... (COURSE=course)
	@test -n "$(SUBMISSIONS)" || { echo "Say where the submissions are: make grade SUBMISSIONS=folder-or-zip"; exit 1; }
	$(BIN)/python -m vaecourse.grading grade --course "$(COURSE)" "$(SUBMISSIONS)"

formgrader: $(HAS)grading ## open formgrader, to grade written answers (COURSE=course)
	$(BIN)/python -m vaecourse.grading formgrader --course "$(COURSE)"

bench: $(HAS)bench ## time the package beside bare loops and its peers, which it installs; time the set-up and the book
	set -e; for benchmark in training players estimators mixture growth grading build; do \
		$(BIN)/python tests/benchmarks/$$benchmark.py; done

clean: ## remove what was built; the environment stays
	rm -rf _build .pytest_cache .hypothesis .ruff_cache
