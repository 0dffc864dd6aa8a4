"""What a table contains, in digests by partition: two contents tell which partitions differ, however many commits,
compactions or restorations lie between them.

The names of a storage partition's files tell whether it changed, since a file never does. Where a storage partition
holds several partitions (a year's sessions, say), the rows of those that changed are read, and digested by partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import TYPE_CHECKING

from lakehouse.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Stored:
    """The content of a storage partition: of its files' names, and of its rows by partition."""

    files: str
    rows: Mapping[str, str]


Content = Mapping[str, Stored]
"""The content of a table, by storage partition."""


def content_of(
    snapshot: Snapshot, connection: duckdb.DuckDBPyConnection, known: Content, until: date | None = None
) -> Content:
    """The content of a table. Reads rows only of the storage partitions whose files aren't those that are `known`.

    Args:
        until: leaves out the partitions from this day on.
    """
    contract = snapshot.table.contract
    part, column = contract.partition_by[0], contract.date_column
    files = {
        name: digest(*found) for name, found in snapshot.files_by(part).items() if until is None or name < str(until)
    }
    found = {name: known[name] for name, of_files in files.items() if name in known and known[name].files == of_files}
    changed = [name for name in files if name not in found]
    rows: dict[str, dict[str, str]] = {name: {name: files[name]} for name in changed}
    if part != column and changed:
        rows = {name: {} for name in changed}
        query = f"""
            SELECT "{part}"::VARCHAR, "{column}"::VARCHAR, count(*) || ' ' || sum(hash(*COLUMNS(*)))
            FROM ({snapshot.select({part: changed})}) GROUP BY ALL
        """
        for name, day, of_rows in connection.execute(query).fetchall():
            rows[name][day] = of_rows
    return found | {name: Stored(files[name], rows[name]) for name in changed}


def differing(before: Content, after: Content) -> set[str]:
    """The partitions whose rows differ between two contents, with those that only one of them has."""
    one, other = (
        {(day, rows) for stored in content.values() for day, rows in stored.rows.items()} for content in (before, after)
    )
    return {day for day, _ in one ^ other}


def digest(*texts: str) -> str:
    """A digest of texts in any order."""
    return blake2b("\0".join(sorted(texts)).encode(), digest_size=8).hexdigest()
