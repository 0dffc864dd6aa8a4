# Every target sets up what it needs: `demo` and `dev` what runs, the others what developers need, too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without bytecode every process compiles Lakehouse and the tests again: eight seconds of a core for each of pytest's.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install install-dev demo dev test test-fast test-all test-unit soak bench check lock clean

install: $(VENV)/.runtime
install-dev: $(VENV)/.development

$(VENV)/.runtime: requirements/runtime.txt requirements/installer.txt pyproject.toml scripts/install.py
	$(PYTHON) scripts/install.py
	@touch $@

$(VENV)/.development: $(VENV)/.runtime requirements/dev.txt
	$(PYTHON) scripts/install.py --dev
	@touch $@

demo: install
	@$(BIN)/lakehouse demo

dev: install
	@$(BIN)/lakehouse dev

# Lint and types take one core while the tests wait for their workers: mypy alone takes half a minute in a fresh clone.
test: install-dev
	@$(MAKE) --jobs=2 check test-all

# Under a minute: lint, types, and the tests that need no server and no process beside them.
test-fast: install-dev
	@$(MAKE) --jobs=2 check test-unit

test-all: install-dev
	$(BIN)/python -m pytest assets_tests -n 3

test-unit: install-dev
	$(BIN)/python -m pytest assets_tests/unit -n 3

# The full counts of kills, mutations, properties and large loads, of which `make test` runs a sample.
soak: install-dev
	LAKEHOUSE_SOAK=1 $(BIN)/python -m pytest assets_tests -n 2 -m soak

# Each figure of docs/performance.md beside its rival; BENCH="--data FOLDER --rounds 5" takes other objects.
bench: install-dev
	$(BIN)/python benchmarks/run.py --write $(BENCH)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Pins the newest versions that pyproject.toml allows, with hashes and without any index's address.
COMPILE := $(BIN)/uv pip compile --generate-hashes --universal --python-version 3.11 \
	--no-header --no-annotate --no-strip-extras --upgrade --quiet
lock: install-dev
	$(COMPILE) --group pyproject.toml:installer --output-file requirements/installer.txt
	$(COMPILE) pyproject.toml --group build --output-file requirements/runtime.txt
	$(COMPILE) --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) .lakehouse dbt_project/target
