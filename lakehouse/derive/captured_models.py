"""What dbt's models read of captured databases besides their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.derive.captured import CapturedSource
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb


def attach_clocks(
    kind: str, sources: Sequence[CapturedSource], lake: Lake, connection: duckdb.DuckDBPyConnection, catalog: str
) -> None:
    """Makes the table `clocks`: the time zone of each source of a kind."""
    connection.execute(f"CREATE TABLE {catalog}.{kind}.clocks (source VARCHAR, time_zone VARCHAR)")
    for source in sources:
        named = f"{literal(source.name)}, {literal(source.days.zone)}"
        connection.execute(f"INSERT INTO {catalog}.{kind}.clocks VALUES ({named})")
