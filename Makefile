# Every target sets up its own virtual environment from a bare Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INTEROP := tests/interop/node_modules/.ready

SEEDS ?= 1000

.PHONY: demo test lint fmt bench dev hunt clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

# Other people's implementations, which ours are tested against; pinned in package.json.
$(INTEROP): tests/interop/package.json
	cd tests/interop && npm install --silent
	touch $(INTEROP)

dev: $(READY) $(INTEROP)   ## set up .venv with everything for development
	@echo "ready: $(BIN)/peewit --help"

demo: $(READY)  ## four nodes, 398 districts, a failure, a partition, a thief (KEEP=1 leaves it running)
	$(BIN)/python -m examples.demo

test: $(READY) $(INTEROP)  ## all tests
	$(BIN)/python -m pytest -q

lint: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(READY)   ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## all measurements of docs/benchmarks.md (about five minutes)
	$(BIN)/python -m bench

hunt: $(READY)  ## random scenarios in simulated worlds (SEEDS=1000 FROM=0; goes on where the last hunt stopped)
	$(BIN)/peewit hunt --seeds $(SEEDS) $(if $(FROM),--from $(FROM))

clean:
	rm -rf $(VENV) tests/interop/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
