# The developer's and the newcomer's whole life. Every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: reproduce difficulty-demo text-demo test lint style test-latest test-lowest torture mutants clean help

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# Hundreds of short processes share what the first one compiles, of ours and of the libraries.
unexport PYTHONDONTWRITEBYTECODE

# torch and torchvision come from one index in one plain install; the tested set is pinned.
# Of its 14,000 modules a third is ever imported: those are compiled then, the others never.
$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint .ci/constraints.txt --editable '.[train,photos,cluster,latents,dev]'
	touch $(STAMP)

reproduce: $(STAMP)  ## Train and score the four arms on avatars; write results/demo/. Resumes.
	@$(BIN)/python -m benchmark reproduce demo

difficulty-demo: $(STAMP)  ## Measure which noise levels are hard, then train B and D. Resumes.
	@$(BIN)/python -m benchmark difficulty avatars --process edm --intervals 5 --num-seeds 2 --output results/difficulty_demo/levels --set training.steps=160
	@$(BIN)/python -m benchmark reproduce difficulty_demo

text-demo: $(STAMP)  ## Train two small networks that are told in words what to draw. Resumes.
	@$(BIN)/python -m benchmark reproduce text_demo

test: $(STAMP)  ## Run all tests.
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(STAMP)  ## Mend style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-latest:  ## Run all tests against the newest allowed versions, in a venv of its own.
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/pip install --quiet --no-compile --upgrade --editable '.[train,photos,cluster,latents,dev]'
	.venv-latest/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-lowest:  ## Run all tests against the lowest allowed versions, in a venv of its own.
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --no-compile --constraint .ci/lowest.txt --editable '.[train,photos,cluster,latents,dev]'
	.venv-lowest/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

torture: $(STAMP)  ## Do 340 kills and full disks, and 5,000 strange files of each kind. Resumes.
	@$(BIN)/python tests/torture
	@$(BIN)/python tests/strangers

mutants: $(STAMP)  ## Plant faults in copies of the code; list those that no test notices.
	@$(BIN)/python tests/mutants

clean:  ## Remove environments and caches (not data, not results).
	rm -rf $(VENV) .venv-latest .venv-lowest .pytest_cache .mypy_cache .ruff_cache
