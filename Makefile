# The two commands of a newcomer: make demo, make test. Each installs what is missing first.
PYTHON ?= python3
BIN := .venv/bin
LOCK := requirements/lock.txt

.PHONY: help install demo test test-slow ops notebooks format lint type-check lock clean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

install:  ## Create .venv with the pinned packages (at once if that is done)
	@PYTHON='$(PYTHON)' tools/setup/install.sh

demo: install  ## Pretrain with MixPro, transfer to segmentation and detection; DATA=dir for the real packs
	@$(BIN)/python tools/demo.py $(if $(DATA),--data '$(DATA)')

test: install  ## Run the default test suite; ARGS for pytest
	@$(BIN)/python -m pytest $(ARGS)

test-slow: ops  ## Run the slow tests, and compile mmcv's ops for them, once per machine
	@$(BIN)/python -m pytest -m slow $(ARGS)

ops: install  ## Compile mmcv's ops for detection, once per machine
	@$(BIN)/python -m mmmixpro.utils.build_ops

notebooks: ops  ## Execute docs/notebooks anew, in place
	@$(BIN)/python docs/notebooks/execute.py

format: install  ## Format the code
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

lint: install type-check  ## Check style and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

type-check: install  ## Check types
	@$(BIN)/python -m mypy mmmixpro

lock: install  ## Resolve requirements/stack.in into requirements/lock.txt
	@$(BIN)/uv pip compile --universal --python-version 3.10 --no-annotate --no-header --quiet --upgrade \
		--no-emit-package opencv-python requirements/stack.in --output-file $(LOCK)

clean:  ## Remove .venv and what was built; results in work_dirs stay
	@rm -rf .venv .venv.lock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find mmmixpro tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
