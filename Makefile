# Every target sets up what it needs: `demo` and `dev` what runs, the others what developers need, too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without bytecode every process compiles Lakehouse and the tests again: eight seconds of a core for each of pytest's.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install install-dev demo dev test test-fast test-all test-unit soak bench check reference docs lock clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target about; do \
		printf '%-18s %s\n' "$$target" "$$about"; done

install: $(VENV)/.runtime ## what runs, into .venv
install-dev: $(VENV)/.development ## what developers need, too

$(VENV)/.runtime: requirements/runtime.txt requirements/installer.txt pyproject.toml scripts/install.py
	$(PYTHON) scripts/install.py
	@touch $@

$(VENV)/.development: $(VENV)/.runtime requirements/dev.txt
	$(PYTHON) scripts/install.py --dev
	@touch $@

demo: install ## simulates vendors, runs the whole pipeline on them, and prints the results
	@$(BIN)/lakehouse demo

dev: install ## Dagster's UI on http://127.0.0.1:3000, daemon and sensors running
	@$(BIN)/lakehouse dev

# Lint and types take one core while the tests wait for their workers.
test: install-dev ## lint, types and every test
	@$(MAKE) --jobs=2 check test-all

# About a minute: lint, types, and what needs no server and no process beside it, without properties and without the
# few unit tests that take seconds each.
test-fast: install-dev ## lint, types and unit tests, in about a minute
	@$(MAKE) --jobs=2 check test-unit

test-all: install-dev ## every test, without lint and types
	$(BIN)/python -m pytest assets_tests -n 3 --max-worker-restart 1

test-unit: install-dev ## the fast unit tests, without lint and types
	$(BIN)/python -m pytest assets_tests/unit -n 3 -m "not slow and not soak"

# The full counts of kills, mutations, properties and large loads, of which `make test` runs a sample.
soak: install-dev ## all kills, mutations, properties and large loads
	LAKEHOUSE_SOAK=1 $(BIN)/python -m pytest assets_tests -n 2 -m soak

# Each figure of docs/performance.md beside its rival; BENCH="--data FOLDER --rounds 5" takes other objects.
bench: install-dev ## measures the figures of docs/performance.md again
	$(BIN)/python benchmarks/run.py --write $(BENCH)

check: install-dev ## ruff, pyrefly and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

# docs/reference, written from the code; a test fails while it says something else.
reference: install-dev
	$(BIN)/python -m scripts.reference

# The site of docs/ in .site; fails on a link that leads nowhere. Its generator has an environment of its own.
docs: install-dev ## builds the site of docs/ in .site
	$(BIN)/uv venv --quiet --allow-existing .venv-docs
	$(BIN)/uv pip install --quiet --require-hashes --requirement requirements/docs.txt --python .venv-docs/bin/python
	.venv-docs/bin/mkdocs build --strict

# Pins the newest versions that pyproject.toml allows, with hashes and without any index's address.
COMPILE := $(BIN)/uv pip compile --generate-hashes --universal --python-version 3.11 \
	--no-header --no-annotate --no-strip-extras --upgrade --quiet
lock: install-dev ## pins the newest versions that pyproject.toml allows
	$(COMPILE) --group pyproject.toml:installer --output-file requirements/installer.txt
	$(COMPILE) pyproject.toml --group build --output-file requirements/runtime.txt
	$(COMPILE) --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(COMPILE) --extra deploy pyproject.toml --group build --constraint requirements/runtime.txt --output-file requirements/deploy.txt
	$(COMPILE) --group docs --output-file requirements/docs.txt

clean: ## removes .venv, the lake in .lakehouse and what dbt made
	rm -rf $(VENV) .lakehouse dbt_project/target
