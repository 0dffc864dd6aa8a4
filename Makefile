# Every target sets up what it needs; `make install` alone makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo dev test check lock clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lakehouse needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	@$(BIN)/lakehouse demo

dev: install
	@$(BIN)/lakehouse dev

test: install check
	$(BIN)/python -m pytest assets_tests -n 2 --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Pins the newest versions that pyproject.toml allows, with hashes and without any index's address.
lock: install
	$(BIN)/uv pip compile pyproject.toml --extra dev --no-strip-extras --generate-hashes --universal --python-version 3.11 --no-header --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) .lakehouse dbt_project/target
