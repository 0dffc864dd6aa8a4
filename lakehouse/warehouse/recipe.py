"""The recipe of a part of the marts: a digest of all that its rows follow from besides the lake's tables. Marts of
another recipe are built in full.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

from lakehouse.catalog import component_of, kinds
from lakehouse.lake.contents import digest
from lakehouse.settings import PROJECT_ROOT, Settings
from lakehouse.warehouse.dbt import digest_of_files, digest_of_project
from lakehouse.warehouse.last_descriptions import in_use
from lakehouse.warehouse.parts import Part

_LIBRARIES = ("duckdb", "dbt-core", "dbt-duckdb", "exchange_calendars")


def recipe_of(part: Part, config: Settings) -> str:
    """The recipe of a part now: of the code, the dbt project, the contracts, the libraries, and the sources' YAML."""
    components = {component_of(kinds()[name]) for name in part.kinds}
    described = {
        name: entry["attributes"] for name, entry in in_use(config).items() if entry["component"] in components
    }
    return digest(
        code_digest(),
        digest_of_project(),
        json.dumps(described, sort_keys=True, default=str),
        # Calendars reach a year ahead, from month to month.
        f"{datetime.now(UTC):%Y-%m}",
    )


def described_digest(config: Settings) -> str:
    """A digest of the sources' descriptions that are in use."""
    return digest(json.dumps(in_use(config), sort_keys=True, default=str))


@cache
def code_digest() -> str:
    """A digest of the package as this process has imported it, and of the libraries that compute its rows."""
    package = PROJECT_ROOT / "lakehouse"
    files = [*package.rglob("*.py"), *(path for path in package.rglob("*.yaml") if path.name != "defs.yaml")]
    return digest(digest_of_files(package, files), *(f"{name} {version(name)}" for name in _LIBRARIES))
