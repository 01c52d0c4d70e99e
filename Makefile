# The two commands of a newcomer: make demo, make test. Each installs what is missing first.
PYTHON ?= python3
BIN := .venv/bin
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.10 --no-annotate --no-header --quiet --upgrade \
	--no-emit-package opencv-python
# Classification and segmentation, resuming included; tests that need mmdet skip themselves there.
UPSTREAM_TESTS := $(addprefix tests/,apis attention configs engine evaluation labels mixing models structures utils \
	test_registry.py test_doctor.py $(addprefix tools/test_,resume.py resume_segmentation.py load_from.py \
	switch_recipe.py options.py inherited.py))

.PHONY: help install demo test test-slow test-upstream test-matrix doctor ops notebooks format lint type-check docs \
	docs-linkcheck lock clean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

install:  ## Create .venv with the pinned packages (at once if that is done)
	@PYTHON='$(PYTHON)' tools/setup/install.sh

demo: install  ## Pretrain with MixPro, transfer to segmentation and detection; DATA=dir for the real packs
	@$(BIN)/python tools/demo.py $(if $(DATA),--data '$(DATA)')

test: install  ## Run the default test suite; ARGS for pytest
	@$(BIN)/python -m pytest $(ARGS)

test-slow: ops  ## Run the slow tests, and compile mmcv's ops for them, once per machine
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-upstream:  ## Run the tests of classification and segmentation on the upstream packages
	@PYTHON='$(PYTHON)' tools/setup/install.sh requirements/upstream.txt .venv-upstream
	@.venv-upstream/bin/python -m pytest $(UPSTREAM_TESTS) $(ARGS)

test-matrix:  ## Run quick tests on Python 3.10 to 3.13, both stacks and the oldest torch; ARGS='--only NAME'
	@$(PYTHON) tools/setup/matrix.py $(ARGS)

doctor: install  ## Check this machine and say what to do
	@$(BIN)/python -m mmmixpro.doctor

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

docs: install  ## Build the documentation into docs/_build/html; a warning is an error
	@rm -rf docs/_build/html
	@$(BIN)/python -m sphinx -E -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

docs-linkcheck: install  ## Check the addresses that the documentation links to; needs the network
	@$(BIN)/python -m sphinx -E -q -b linkcheck -d docs/_build/doctrees-linkcheck docs docs/_build/linkcheck

lock: install  ## Resolve requirements/*.in into the locks
	@$(COMPILE) requirements/stack.in --output-file requirements/lock.txt
	@$(COMPILE) requirements/stack.in --override requirements/lowest.in --output-file requirements/lowest.txt
	@$(COMPILE) requirements/upstream.in --output-file requirements/upstream.txt

clean:  ## Remove .venv and what was built; results in work_dirs stay
	@rm -rf .venv* build dist *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find mmmixpro tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
