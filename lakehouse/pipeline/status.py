"""How a source stands: sessions loaded, missing and failed, what the quarantine holds and why, and when the
marts were last published.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import ledger_of, newest_entries
from lakehouse.pipeline.completeness import missing_objects, unreadable_objects
from lakehouse.pipeline.entered import QUARANTINE
from lakehouse.pipeline.readings import read_otherwise
from lakehouse.pipeline.rebuild import misordered_entries
from lakehouse.pipeline.skipped import Skipped, last_skipped
from lakehouse.sources.config import SourceConfig


@dataclass(frozen=True)
class Status:
    """One source's state. `missing` names the sessions between the first and the last loaded one that have no
    object at all.
    """

    source: str
    sessions_loaded: int
    first_session: date | None
    last_session: date | None
    missing: list[date]
    incomplete: dict[date, list[str]]
    failed_objects: list[dict[str, object]]
    objects: dict[str, int]
    rebuild_due: int
    """Objects that hold another version than by a rebuild, in a lake from an earlier release."""
    read_otherwise: int
    """Objects that were read by other settings than the source has now."""
    skipped: list[Skipped]
    """What the last load or tick of the sensor could not take for an object of the source."""
    rows_received: int
    quarantine: list[dict[str, object]]


def status(lake: Lake, config: SourceConfig) -> Status:
    """Reads a source's ledger and quarantine; the source itself is not asked."""
    import polars as pl

    ledger = ledger_of(lake, config.source).collect()
    readable = ledger.filter(pl.col("status") != "failed")
    bars = readable.filter(pl.col("product") == config.bars.name)
    parts = bars["parts"].explode().struct.field("part").drop_nulls().to_list()
    sessions = sorted({*parts, *bars.filter(pl.col("status") == "empty")["first_session"].to_list()})
    calendar = config.calendar_frame()
    expected = calendar.between(sessions[0], sessions[-1]) if sessions else []
    return Status(
        source=config.source,
        sessions_loaded=len(sessions),
        first_session=sessions[0] if sessions else None,
        last_session=sessions[-1] if sessions else None,
        missing=sorted(set(expected) - set(sessions)),
        incomplete=missing_objects(
            config,
            calendar,
            ledger,
            [session for session in sessions if calendar.is_session(session)],
        ),
        failed_objects=unreadable_objects(config, ledger.lazy()),
        objects=dict(newest_entries(ledger.lazy()).collect().group_by("status").len().iter_rows()),
        rebuild_due=misordered_entries(config, ledger.lazy()).height,
        read_otherwise=read_otherwise(config, ledger.lazy()).height,
        skipped=last_skipped(lake, config.source),
        rows_received=int(ledger["rows_received"].sum() or 0),
        quarantine=quarantine_by_reason(lake, config.source),
    )


def quarantine_by_reason(lake: Lake, source: str) -> list[dict[str, object]]:
    """(reason, rows, last_session) of a source's rows in the quarantine, the most frequent first."""
    with lake.connect() as connection:
        stored = lake.select(QUARANTINE, connection, {"source": [source]})
        return (
            connection.execute(
                f"""
                SELECT reason, count(*) AS rows, max(session) AS last_session
                FROM (SELECT unnest(reasons) AS reason, session FROM ({stored}))
                GROUP BY reason ORDER BY rows DESC, reason
                """
            )
            .to_arrow_table()
            .to_pylist()
        )


def last_published(lake: Lake) -> datetime | None:
    """When the warehouse was last published, or None if it never was."""
    if lake.warehouse is None or not lake.warehouse.exists():
        return None
    return datetime.fromtimestamp(lake.warehouse.stat().st_mtime, UTC)
