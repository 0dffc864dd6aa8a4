"""The audit of what was published to whom, the table `lake.role_publications`.

A publication is recorded before its file is served. An entry whose file isn't served is followed by another one that
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lakehouse.governance.grants import Sight
from lakehouse.governance.role_file import TableInFile
from lakehouse.lake.lake import Lake

AUDIT = "role_publications"


@dataclass(frozen=True)
class Entry:
    """An entry of the audit about a file."""

    publication: str
    event: str
    is_encrypted: bool


def record(lake: Lake, role: str, about: Entry, tables: Sequence[tuple[Sight, TableInFile]] = ()) -> None:
    """Appends an entry, with a row for each table of the file; a file without tables has a row too."""
    shared: dict[str, Any] = {
        "role": role,
        "publication": about.publication,
        "event": about.event,
        "columns": [],
        "masked": [],
    }
    shared |= {"is_encrypted": about.is_encrypted, "recorded_at": datetime.now(UTC)}
    rows = [shared | _row(sight, table) for sight, table in tables]
    lake.table(AUDIT).append_rows(rows or [shared])


def _row(sight: Sight, table: TableInFile) -> dict[str, Any]:
    return {
        "table_name": sight.table,
        "columns": list(sight.columns),
        "masked": sorted(sight.masked),
        "rows_where": sight.rows,
        "rows": table.rows,
        "digest": table.digest,
    }


def last_entry(lake: Lake, role: str) -> Entry | None:
    """The newest entry of a role."""
    snapshot = lake.table(AUDIT).snapshot()
    if snapshot.delta is None:
        return None
    with lake.connect() as connection:
        row = connection.execute(
            f"SELECT publication, event, is_encrypted FROM ({snapshot.select({'role': [role]})}) "
            "ORDER BY recorded_at DESC LIMIT 1"
        ).fetchone()
    return None if row is None else Entry(*row)


def close_last(lake: Lake, role: str, event: str, served: str | None = None) -> None:
    """Records that the file of the newest entry isn't served: it is withdrawn, or was abandoned; not if it is the one
    that is `served`.
    """
    last = last_entry(lake, role)
    if last is not None and last.event == "published" and last.publication != served:
        record(lake, role, Entry(last.publication, event, last.is_encrypted))
