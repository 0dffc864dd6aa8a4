"""Countries and currencies, as the installed pycountry has them: views without a source, since the lists come with the
installation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

_COUNTRIES, _CURRENCIES = "reference_countries", "reference_currencies"


def countries(sources: Sequence[Any], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query for `reference.countries`."""
    import pycountry

    rows = [
        (each.alpha_2, each.alpha_3, each.numeric, each.name, getattr(each, "official_name", None))
        for each in pycountry.countries
    ]
    names = ("code", "code3", "number", "name", "official_name")
    return _registered(connection, _COUNTRIES, names, rows)


def country(sources: Sequence[Any], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query for `reference.country`."""
    return f"SELECT name, code, ingestion_timestamp FROM ({countries(sources, lake, connection)})"


def currencies(sources: Sequence[Any], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query for `reference.currencies`."""
    import pycountry

    rows = [(each.alpha_3, getattr(each, "numeric", None), each.name) for each in pycountry.currencies]
    return _registered(connection, _CURRENCIES, ("code", "number", "name"), rows)


def _registered(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> str:
    import pyarrow as pa
    import pycountry

    table = pa.table([pa.array(values, pa.string()) for values in zip(*rows, strict=True)], names=list(columns))
    connection.register(name, table)
    installed = datetime.fromtimestamp(Path(pycountry.__file__).stat().st_mtime, UTC)
    return f"SELECT *, TIMESTAMPTZ '{installed.isoformat()}' AS ingestion_timestamp FROM {name}"
