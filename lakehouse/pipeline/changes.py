"""What every derivation needs: what differs from what is stored, and whether its inputs are still those it read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.lake.errors import StaleSnapshot
from lakehouse.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb


@dataclass
class Derived:
    """What a derivation did: rows in the partitions asked for, rows and sessions (or days, years) that changed."""

    rows: int = 0
    changed: set[date] = field(default_factory=set)
    rows_changed: int = 0
    commits: int = 0

    def add(self, other: Derived) -> None:
        """Counts what another derivation of the same table did."""
        self.rows += other.rows
        self.changed |= other.changed
        self.rows_changed += other.rows_changed
        self.commits += other.commits


def changed_partitions(
    connection: duckdb.DuckDBPyConnection, target: Snapshot, partition: str, values: Sequence[date | str]
) -> list[date]:
    """The values of the partition column whose rows in the relation `fresh` differ from the stored ones, as sets
    of rows.
    """
    if not target.files({partition: values}):
        found = connection.execute(f"SELECT DISTINCT {partition} FROM fresh").fetchall()
        return sorted(value for (value,) in found)
    columns = ", ".join(f'"{name}"' for name in target.table.contract.column_names)
    # Rows are unique by their key, so an order-independent sum of row hashes and the count tell two sets apart.
    fingerprint = (
        f"SELECT {partition}, count(*) AS row_count, sum(hash({columns})::HUGEINT) AS hashes "
        f"FROM {{}} GROUP BY {partition}"
    )
    stored = fingerprint.format(f"({target.select({partition: values})})")
    rows = connection.execute(
        f"""
        SELECT {partition} FROM ({fingerprint.format("fresh")}) AS new FULL JOIN ({stored}) AS old USING ({partition})
        WHERE (new.row_count, new.hashes) IS DISTINCT FROM (old.row_count, old.hashes)
        """
    ).fetchall()
    return sorted(value for (value,) in rows)


def still_current(*inputs: Snapshot) -> None:
    """Raises `StaleSnapshot`, so that the work is done again, if a table that was read has a newer version."""
    for snapshot in inputs:
        if snapshot.table.snapshot().version != snapshot.version:
            raise StaleSnapshot(f"{snapshot.table.name} has changed since it was read")


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """How many rows a relation has."""
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])
