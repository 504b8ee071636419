# The commands of the README. `make help` lists them.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export DO_NOT_TRACK ?= 1

.DEFAULT_GOAL := help
.PHONY: help image omi test check deploy clean

help: ## list these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

image: $(VENV)/.run ## bake a first Oxide image on this machine, in a region in a box
	@tools/packages guests
	@$(PY) -m emulators.guests build debian
	@tools/first-image

omi: $(VENV)/.run ## bake a first OMI on this machine, in a region in a box (root)
	@tools/packages guests
	@$(PY) -m emulators.guests build debian
	@tools/first-omi

test: $(VENV)/.dev ## run all tests
	@tools/packages guests tests
	@$(PY) -m emulators.guests build tiny
	@tools/test

check: $(VENV)/.dev ## lint, format and types
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy

deploy: $(VENV)/.run ## register block types, work pool and deployments on the Prefect server of PREFECT_API_URL
	@tools/deploy

clean: ## remove everything that these commands made in this directory, and stop what they started
	@tools/clean

$(VENV)/.run: requirements.txt tools/venv
	@tools/venv $(PYTHON) requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt tools/venv
	@tools/venv $(PYTHON) requirements-dev.txt
	@touch $@ $(VENV)/.run
