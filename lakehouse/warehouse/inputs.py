"""The inputs of a publication: the versions of each source's tables.

A source that is held back (see `derive.held_back`) is read at the versions that were published last, the others at
their newest versions. So in marts that sources share, it keeps its published rows while the others' are replaced, and a
rebuild from scratch gives the same.

The versions are recorded in the published file, as `publication.inputs`, so that neither exists without the other.
`marts.held_back` shows which sources keep their rows, and since when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.derive.held_back import Hold, holds
from lakehouse.errors import TableMissing
from lakehouse.lake.lake import Lake
from lakehouse.lake.published import recorded_versions
from lakehouse.lake.sql import literal, timestamp_literal
from lakehouse.lake.stored_table import Pin
from lakehouse.settings import settings
from lakehouse.warehouse.last_descriptions import last_described
from lakehouse.warehouse.parts import Part
from lakehouse.warehouse.sources import part_tables

if TYPE_CHECKING:
    import duckdb

Versions = Mapping[str, int | None]
"""Table -> the version that is read; None if it was never written."""

HELD_BACK_MART = "held_back"


@dataclass(frozen=True)
class Inputs:
    """The inputs of some parts.

    Attributes:
        versions: by part and source, of each table that the models read.
        held: the failed blocking checks because of which sources keep their rows.
    """

    versions: Mapping[tuple[str, str], Versions]
    held: tuple[Hold, ...]

    @property
    def pins(self) -> dict[str, Pin]:
        """The versions as pins of the lake."""
        return {name: Pin(version) for found in self.versions.values() for name, version in found.items()}


def inputs_of(lake: Lake, parts: Iterable[Part], published: Path) -> Inputs:
    """The inputs from which the parts must be built now; `published` is the published file."""
    held = holds(lake)
    kept = {hold.source for hold in held}
    kept |= {source.name for part in parts for source in last_described(part.schema, settings())}
    recorded = recorded_versions(published) if kept else {}
    found: dict[tuple[str, str], Versions] = {}
    for part in parts:
        for source, tables in part_tables(part).items():
            if source not in kept:
                found[part.name, source] = {name: lake.table(name).snapshot().version for name in tables}
            elif recorded is None:
                found[part.name, source] = {name: _version_at(lake, name, _modified(published)) for name in tables}
            else:
                known = recorded.get((part.name, source), {})
                found[part.name, source] = {name: known.get(name) for name in tables}
    sources = {source for _, source in found}
    return Inputs(found, tuple(hold for hold in held if hold.source in sources))


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _version_at(lake: Lake, name: str, moment: datetime) -> int | None:
    try:
        return lake.table(name).at(moment).version
    except TableMissing:
        return None


def record(connection: duckdb.DuckDBPyConnection, inputs: Inputs) -> None:
    """Records in the private file the inputs of the parts that were built."""
    connection.execute(
        """
        CREATE SCHEMA IF NOT EXISTS publication;
        CREATE TABLE IF NOT EXISTS publication.inputs (
            part VARCHAR, source VARCHAR, table_name VARCHAR, version BIGINT
        );
        CREATE SCHEMA IF NOT EXISTS marts;
        CREATE TABLE IF NOT EXISTS marts.held_back (
            part VARCHAR, source VARCHAR, since TIMESTAMPTZ, table_name VARCHAR, check_name VARCHAR, found VARCHAR
        )
        """
    )
    for part in {part for part, _ in inputs.versions}:
        connection.execute(f"DELETE FROM publication.inputs WHERE part = {literal(part)}")
        connection.execute(f"DELETE FROM marts.held_back WHERE part = {literal(part)}")
    for (part, source), versions in inputs.versions.items():
        for name, version in versions.items():
            texts = ", ".join(map(literal, (part, source, name)))
            number = "NULL" if version is None else version
            connection.execute(f"INSERT INTO publication.inputs VALUES ({texts}, {number})")
        for hold in inputs.held:
            if hold.source == source:
                texts = ", ".join(map(literal, (hold.table, hold.check, hold.found)))
                connection.execute(
                    f"INSERT INTO marts.held_back VALUES ({literal(part)}, {literal(source)}, "
                    f"{timestamp_literal(hold.since)}, {texts})"
                )
