# make demo: install into .venv/ and run the main job on bundled real images.
# make test: the same with the test extra, then the suite.
PYTHON ?= python3
BIN := .venv/bin
# Several threads a process are slower than one here: the work is split over processes.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check bench docs clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-test: pyproject.toml .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

.venv/installed-dev: pyproject.toml .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/polytask compare digits --out runs/demo --resume

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/audit.py
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: .venv/installed
	$(BIN)/python -m benchmarks

docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf runs build dist site .pytest_cache .mypy_cache .ruff_cache
