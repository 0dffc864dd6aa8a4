"""What every derivation needs: what differs from what is stored, and whether its inputs are still those it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.errors import StaleSnapshot
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.table import TRIES, retry_when_stale

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class DeriveResult:
    """What a derivation did: rows in the partitions asked for, rows and sessions (or days, years) that changed, how
    many commits that took, and, of bars and daily bars, how many rows changed in each session.
    """

    rows: int = 0
    changed: frozenset[date] = frozenset()
    rows_changed: int = 0
    commits: int = 0
    changed_by_partition: Mapping[date, int] = field(default_factory=dict)

    def __add__(self, other: DeriveResult) -> DeriveResult:
        """What this derivation and another one of the same table did together."""
        return DeriveResult(
            self.rows + other.rows,
            self.changed | other.changed,
            self.rows_changed + other.rows_changed,
            self.commits + other.commits,
            Counter(self.changed_by_partition) + Counter(other.changed_by_partition),
        )


def derive_until_current(derive: Callable[[], tuple[DeriveResult, Sequence[Snapshot]]]) -> DeriveResult:
    """Derives again for as long as an input has a newer version after the commit than the one that was read.

    A derivation that meets a newer target has committed nothing and counts nothing; one whose inputs turn out to be
    outdated has committed, so that what it changed counts beside what the next one changes.

    Args:
        derive: takes its own snapshots, commits once at most, and returns what it did and the inputs.
    """
    before = DeriveResult()
    for _ in range(TRIES):
        made, inputs = retry_when_stale(derive)
        done = replace(before + made, rows=made.rows)
        outdated = [snapshot for snapshot in inputs if snapshot.table.snapshot().version != snapshot.version]
        if not made.commits or not outdated:
            return done
        before = done
    raise StaleSnapshot(f"{outdated[0].table.name} changes faster than anything can be derived from it")


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


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """How many rows a relation has."""
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])
