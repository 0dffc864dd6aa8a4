"""The state of any source, by the ledger and the quarantine; the source itself is not asked.

A kind of source with more to tell, such as sessions, has a status of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.derive.checks import unreadable_objects
from lakehouse.derive.source import Source
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.ledger import ledger_of, newest_entries
from lakehouse.ingest.skipped import Skipped, last_skipped
from lakehouse.ingest.stale_readings import read_otherwise
from lakehouse.lake.lake import Lake


@dataclass(frozen=True)
class SourceStatus:
    """One source's state.

    Args:
        objects: status -> how many objects' newest versions have it; None for a source that takes in none.
        read_otherwise: objects that were read by other settings than the source has now.
        skipped: what the last load could not take for an object of the source.
        quarantine: see `quarantine_by_reason`.
        notes: what the source adds: label -> text.
    """

    source: str
    objects: Mapping[str, int] | None
    rows_received: int
    failed_objects: list[dict[str, object]]
    read_otherwise: int
    skipped: list[Skipped]
    quarantine: list[dict[str, object]]
    notes: Mapping[str, str]


def source_status(lake: Lake, source: Source) -> SourceStatus:
    """Reads a source's ledger and quarantine."""
    ledger = ledger_of(lake, source.name)
    newest = newest_entries(ledger).collect()
    return SourceStatus(
        source=source.name,
        objects=dict(newest.group_by("status").len().sort("status").iter_rows()) if source.datasets else None,
        rows_received=int(ledger.select("rows_received").sum().collect().item() or 0),
        failed_objects=unreadable_objects(source.datasets, ledger),
        read_otherwise=read_otherwise(source.datasets, ledger).height,
        skipped=last_skipped(lake, source.name),
        quarantine=quarantine_by_reason(lake, source.name),
        notes=source.notes(lake),
    )


def quarantine_by_reason(lake: Lake, source: str) -> list[dict[str, object]]:
    """(reason, rows, last_session, last_object) of a source's rows in the quarantine, the most frequent first. The last
    object is the one to look into: a row that no partition is for counts to the next one.
    """
    with lake.connect() as connection:
        stored = lake.select(QUARANTINE, connection, {"source": [source]})
        return (
            connection.sql(
                f"""
                SELECT reason, count(*) AS rows, max(session) AS last_session,
                    arg_max(object, (session, object)) AS last_object
                FROM (SELECT unnest(reasons) AS reason, session, object FROM ({stored}))
                GROUP BY reason ORDER BY rows DESC, reason
                """
            )
            .to_arrow_table()
            .to_pylist()
        )
