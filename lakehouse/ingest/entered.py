"""Selects the rows that the ledger names, and removes those that it doesn't.

A load killed before its last commit leaves rows in the raw table and in the quarantine. A retry adopts them; but if
the object was replaced in the meantime, no ledger entry will ever name them. Nothing reads such rows: `entered_rows`
filters tables whose contracts set `by_ledger`. A check counts them, and housekeeping removes them after a day.
A load adopts rows younger than half a day and removes older ones itself, so that housekeeping never removes rows that a
load is about to enter.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.ingest.ledger import LEDGER
from lakehouse.ingest.versions import references
from lakehouse.lake.lake import Lake
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.lake.sql import Partitions, literal, predicate, relation_of, timestamp_literal
from lakehouse.lake.table import retry_when_stale

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

QUARANTINE = "quarantine"
KEPT = timedelta(hours=24)
"""How long rows without a ledger entry are kept."""


def entered_rows(
    lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, partitions: Partitions | None = None
) -> str:
    """The query for the rows of a raw table, or of the quarantine, that the ledger names (as of `lake.as_of`). For the
    quarantine: the rows of each object's latest reading, and all rows of feeds, which have no objects.
    """
    stored = lake.table(name).snapshot()
    if name != QUARANTINE:
        return f"SELECT * FROM ({stored.select(partitions)}) AS stored SEMI JOIN {_named(lake, connection, name)}"
    queries = []
    loaded = lake.table(LEDGER).snapshot().partition_values("source")
    wanted = (partitions or {}).get("source")
    for source in stored.partition_values("source") if wanted is None else wanted:
        rows = f"SELECT * FROM ({stored.select({**(partitions or {}), 'source': [str(source)]})}) AS stored"
        if str(source) in loaded:
            queries.append(f"{rows} SEMI JOIN {_named(lake, connection, name, str(source))} AND is_latest")
        elif lake.as_of is not None:
            queries.append(f"{rows} WHERE ingested_at <= {timestamp_literal(lake.as_of)}::TIMESTAMPTZ")
        else:
            queries.append(rows)
    return " UNION ALL ".join(queries) or stored.select({"source": []})


def unentered_rows(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: str,
    partitions: Partitions | None = None,
) -> str:
    """The query for a source's rows of a raw table, or of the quarantine, that no entry of the ledger names."""
    stored = lake.table(name).snapshot()
    named = _named(lake, connection, name, source)
    where = {**(partitions or {}), "source": [source]} if name == QUARANTINE else partitions
    return f"SELECT * FROM ({stored.select(where)}) AS stored ANTI JOIN {named}"


def remove_unentered(lake: Lake) -> dict[str, int]:
    """Removes rows older than a day that no ledger entry names. Returns their number by table."""
    before = datetime.now(UTC) - KEPT
    removed: dict[str, int] = {}
    loaded = lake.table(LEDGER).snapshot().partition_values("source")
    for schema, table in lake.tables():
        name = table if schema == SHARED_SCHEMA else f"{schema}/{table}"
        if not lake.table(name).contract.by_ledger:
            continue
        for source in loaded if name == QUARANTINE else [schema]:
            count = retry_when_stale(partial(_removed, lake, name, source, before, None))
            if count:
                removed[name] = removed.get(name, 0) + count
    return removed


def clear_abandoned(lake: Lake, source: str, name: str, rows: pa.Table, partition: str) -> None:
    """Called before `rows` are committed: removes rows of the same object versions that a killed load left behind too
    long ago to be adopted.
    """
    if rows.num_rows:
        partitions = {partition: [str(value) for value in rows[partition].unique().to_pylist()]}
        before = datetime.now(UTC) - KEPT / 2
        retry_when_stale(partial(_removed, lake, name, source, before, partitions, _versions(rows)))


def _versions(rows: pa.Table) -> str:
    return predicate({"object_version": rows["object_version"].unique().to_pylist()})


def _removed(
    lake: Lake, name: str, source: str, before: datetime, partitions: Partitions | None, further: str = "true"
) -> int:
    # The delete also sees later commits; but an entry missing from this snapshot belongs to younger rows.
    snapshot = lake.table(name).snapshot()
    old = f"ingested_at < {timestamp_literal(before)}"
    where = {**(partitions or {}), "source": [source]} if name == QUARANTINE else partitions
    if not snapshot.files(where):
        return 0
    columns = "session" if name == QUARANTINE else snapshot.table.contract.partition_by[0]
    with lake.connect() as connection:
        found = connection.execute(
            f"""
            SELECT object, object_version, {columns}, count(*)
            FROM ({unentered_rows(lake, connection, name, source, partitions)})
            WHERE {old}::TIMESTAMPTZ AND {further} GROUP BY ALL ORDER BY ALL
            """
        ).fetchall()
    if not found:
        return 0
    of_source = f"source = {literal(source)} AND " if name == QUARANTINE else ""
    versions = " OR ".join(
        f"(object = {literal(item)} AND object_version = {literal(version)} AND {columns} = {literal(part)})"
        for item, version, part, _ in found
    )
    snapshot.delete(f"{of_source}{old} AND ({versions})")
    return sum(count for *_, count in found)


def _named(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, source: str | None = None) -> str:
    """The join of a source's `stored` rows with the parts that the ledger names."""
    of_source = {"source": [source or name.split("/")[0]]}
    ledger = relation_of(lake.select(LEDGER, connection, of_source))
    # Quarantined rows carry their partition; parts are partitions, or the first day of a month or year.
    months, years = (f"date_trunc('{unit}', stored.session)::DATE" for unit in ("month", "year"))
    part = lake.table(name).contract.partition_by[0]
    is_part = f"IN (stored.session, {months}, {years})" if name == QUARANTINE else f"= stored.{part}"
    return f"""({references(ledger)}) AS named
        ON stored.object = named.object AND stored.object_version = named.object_version AND named.part {is_part}"""
