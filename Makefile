# The commands of the README. `make help` lists them.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export DO_NOT_TRACK ?= 1

.DEFAULT_GOAL := help
.PHONY: help image omi test check benchmark chaos deploy serve clean

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
	@tools/options --check

benchmark: $(VENV)/.run ## measure what a build costs (root; ROUNDS=5 PARTS=oxide,command,qemu,parallel,workers,event,outscale)
	@tools/packages guests benchmark
	@$(PY) -m emulators.guests build tiny
	@$(PY) -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PARTS),--parts $(PARTS)) \
	    $(if $(BUILDS),--builds $(BUILDS)) $(if $(TIME_LIMIT),--time-limit $(TIME_LIMIT))

chaos: $(VENV)/.dev ## kill and fail builds everywhere, and count what is left (root; CHAOS_MINUTES=25 SEED=N ONLY=POINT)
	@tools/packages guests tests
	@$(PY) -m emulators.guests build tiny
	@$(PY) -m tests.chaos --minutes $(or $(CHAOS_MINUTES),25) $(if $(SEED),--seed $(SEED)) \
	    $(if $(ONLY),--only '$(ONLY)') --json var/chaos.json

deploy: $(VENV)/.run ## every definition becomes a deployment on the server of PREFECT_API_URL (PRUNE=1 DRY_RUN=1 NOTIFY=slack-webhook/team)
	@tools/deploy $(if $(PRUNE),--prune) $(if $(DRY_RUN),--dry-run) $(if $(NOTIFY),--notify $(NOTIFY))

serve: $(VENV)/.run ## a server, a worker, regions in a box and a fleet on this machine, for a look around
	@tools/packages guests
	@$(PY) -m emulators.guests build tiny
	@exec tools/serve

clean: ## remove everything that these commands made in this directory, and stop what they started
	@tools/clean

$(VENV)/.run: requirements.txt tools/venv
	@tools/venv $(PYTHON) requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt tools/venv
	@tools/venv $(PYTHON) requirements-dev.txt
	@touch $@ $(VENV)/.run
