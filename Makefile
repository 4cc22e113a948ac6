# Every command a newcomer needs. Each installs what it lacks into .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick lint docs sandbox clean

demo: $(VENV)/.installed        ## the main job on the embedded data: reported | reproduced | difference
	$(BIN)/zoo reproduce sandbox --out runs/results

test: $(VENV)/.installed        ## every test, in two processes
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick: $(VENV)/.installed       ## the tests that take a moment only
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/.installed        ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/.installed        ## the documentation as a site, in site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,docs]"
	$(BIN)/mkdocs build --strict

sandbox: $(VENV)/.installed     ## train the bundled checkpoints again, from rendered videos (hours on two cores)
	$(BIN)/python benchmarks/sandbox/nonlocal.py --seeds 0 1 2 3 4 --bundle
	$(BIN)/python benchmarks/sandbox/time_cycle.py --seeds 0 1 2 3 --bundle
	$(BIN)/python benchmarks/sandbox/goal_trajectory.py --seeds 0 1 2 --bundle
	$(BIN)/python benchmarks/sandbox/temporal_fields.py --seeds 0 1 2 --bundle
	$(BIN)/python benchmarks/sandbox/actionness.py --seeds 0 1 2 3 4 --bundle
	$(BIN)/python benchmarks/sandbox/milnce.py --seeds 0 1 2 --bundle
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,flow,physics]"
	$(BIN)/python benchmarks/sandbox/intuitive_physics.py --seeds 0 1 2 --jobs 2 --bundle

# The stamp is written last: an interrupted installation is taken up again by the next make.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:                          ## remove what the other commands made
	rm -rf $(VENV) site dist build .pytest_cache .ruff_cache
