"""The catalogue that dbt's models read: each table of the lake over all sources of its kind, and what domains add."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.catalog import descriptions, faulty_files, kinds, lake_of, sources_of
from lakehouse.derive.source import Source
from lakehouse.errors import SourceError
from lakehouse.lake.contract import Contract, empty_relation
from lakehouse.lake.engine import prepare
from lakehouse.lake.lake import Lake
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.lake.sql import literal
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.last_descriptions import last_described
from lakehouse.warehouse.parts import Part
from lakehouse.warehouse.reading import kinds_in, moment_in, pins_in

if TYPE_CHECKING:
    import duckdb

CATALOG = "lakehouse"
"""Name under which models read the lake."""


def require_descriptions(lake: Lake, parts: Iterable[Part], *, are_kept: bool = True) -> None:
    """Checks that no stored source of the `parts` is missing because its YAML has a fault: the models would lose its
    rows. A source whose YAML was removed is left out on purpose.

    Args:
        are_kept: the last description of a source with a fault will do (see `last_descriptions`).

    Raises:
        SourceError: a YAML has a fault, and the lake has tables of a source that no other YAML describes.
    """
    faulty = faulty_files()
    if not faulty:
        return
    for part in parts:
        known = {source.name for source in described_sources(part.schema)}
        if are_kept:
            known |= {source.name for source in last_described(part.schema, settings())}
        if lost := sorted({*lake.sources(part.schema)} - known):
            raise SourceError(
                f"the marts would lose the rows of {', '.join(lost)}: {'; '.join(map(str, faulty.values()))}. "
                "Correct the file and publish again; the published file stays as it was"
            )


def described_sources(kind: str, config: Settings | None = None) -> list[Any]:
    """The sources of a kind whose files have no fault."""
    faulty, files = faulty_files(), descriptions().files
    return [source for source in sources_of(kind, config) if files.get(source.name) not in faulty]


def sources_in_marts(kind: str, config: Settings) -> list[Any]:
    """The sources of a kind that the marts show: those with a fault as they were published last."""
    return [*described_sources(kind, config), *last_described(kind, config)]


def attach_lake(connection: duckdb.DuckDBPyConnection, config: Settings, catalog: str = "lakehouse") -> None:
    """Attaches an in-memory catalog to `connection` in which the lake of `config` can be read. A second call on the
    same database does nothing.

    The catalog has, for every kind of source that is read, `<kind>.<table>` over every configured source with that
    table (empty if none has it), with the source's name as first column; `<source>.<table>` of each of these; what the
    domains attach (see their `model_inputs`); and `lake.ingest_ledger`. The moment as of which the lake is read, the
    kinds, and the versions of tables are those noted in the file that dbt builds (see `reading`).
    """
    if connection.execute(f"SELECT 1 FROM duckdb_databases() WHERE database_name = {literal(catalog)}").fetchone():
        return
    present = lake_of(config, as_of=moment_in(connection))
    lake = present.pinned(pins_in(connection).get, present.warehouse)
    prepare(connection, lake.uri)
    connection.execute(f"ATTACH ':memory:' AS {catalog}")
    lake.attach(connection, [(SHARED_SCHEMA, "ingest_ledger")], catalog)
    read = kinds_in(connection)
    for kind in kinds().values():
        if read is not None and kind.name not in read:
            continue
        sources = sources_in_marts(kind.name, config)
        lake.attach(
            connection, [(each.name, name) for each in sources for name in tables_of(each, kind.over_all)], catalog
        )
        connection.execute(f"CREATE SCHEMA {catalog}.{kind.name}")
        for table in kind.over_all:
            rows = _over_all(sources, table, kind.contracts()[table], catalog)
            connection.execute(f"CREATE VIEW {catalog}.{kind.name}.{table} AS {rows}")
        if kind.attach is not None:
            kind.attach(sources, lake, connection, catalog)


def part_tables(part: Part) -> dict[str, list[str]]:
    """The paths of the tables that a part's models read, by source."""
    return {
        source.name: sorted(source.table(table) for table in tables_of(source, kind.tables_read))
        for kind in (kinds()[name] for name in part.kinds)
        for source in sources_in_marts(kind.name, settings())
    }


def tables_of(source: Source, names: Collection[str]) -> list[str]:
    """The tables among `names` that a source has."""
    own = {table.name for table in source.tables}
    return [name for name in names if name in own]


def _over_all(sources: Sequence[Source], table: str, contract: Contract, catalog: str) -> str:
    """The query for the union of a table over the sources that have it, in the columns of the contract, of which a
    source may have fewer; empty if none has.
    """
    relations = {each.name: f'{catalog}."{each.name}".{table}' for each in sources if tables_of(each, [table])}
    return " UNION ALL BY NAME ".join(
        f"SELECT {literal(name)} AS source, * FROM {relation}"
        for name, relation in {"": empty_relation(contract), **relations}.items()
    )
