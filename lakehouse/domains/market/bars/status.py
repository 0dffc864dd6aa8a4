"""The status of a source: sessions loaded, missing and failed, what the quarantine holds and why, and when the
marts were last published.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from lakehouse.derive.checks import unreadable_objects
from lakehouse.derive.rebuild import misordered_entries
from lakehouse.derive.status import quarantine_by_reason
from lakehouse.domains.market.bars.completeness import missing_objects
from lakehouse.domains.market.bars.products import Bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.ledger import ledger_of, newest_entries
from lakehouse.ingest.refused import Refusal, refusal
from lakehouse.ingest.skipped import Skipped, last_skipped
from lakehouse.ingest.stale_readings import read_otherwise
from lakehouse.ingest.unoffered import Unoffered, unoffered
from lakehouse.lake.lake import Lake
from lakehouse.lake.published import Publication, found_publication

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Status:
    """One source's state. `missing` names the sessions between the first and the last loaded one that have no
    object at all; of a source without bars, those without a row.
    """

    source: str
    sessions_loaded: int
    first_session: date | None
    last_session: date | None
    missing: list[date]
    incomplete: dict[date, list[str]]
    ending_early: dict[date, list[str]]
    """Session -> the symbols whose bars end long before its close, though every object came."""
    failed_objects: list[dict[str, object]]
    unoffered: list[Unoffered]
    """Requests about months before the vendor's data of their symbol begin."""
    objects: dict[str, int]
    rebuild_due: int
    """Objects that hold another version than by a rebuild, in a lake from an earlier release."""
    read_otherwise: int
    """Objects that were read by other settings than the source has now."""
    skipped: list[Skipped]
    """What the last load or tick of the sensor could not take for an object of the source."""
    rows_received: dict[str, int]
    """By product: a run's own numbers are those of its bars."""
    refusals: dict[str, Refusal]
    """By product, where any row was refused."""
    empty_sessions: list[date]
    """Sessions of which every object was empty: nothing traded, or the vendor had a bad day."""
    quarantine: list[dict[str, object]]


def status(lake: Lake, source: BarSource) -> Status:
    """Reads a source's ledger and quarantine; the source itself is not asked."""
    import polars as pl

    ledger = ledger_of(lake, source.name).collect()
    readable = ledger.filter(pl.col("status") != "failed")
    bars = readable.filter(pl.col("product") == Bars.name)
    sessions = _sessions_of_bars(bars) if source.has_bars else _sessions_of_daily(lake, source)
    failed = unreadable_objects(source.datasets, ledger.lazy())
    before = unoffered(source.datasets, ledger.lazy())
    received = ledger.group_by("product").agg(pl.col("rows_received").sum())

    refused = {dataset.name: refusal(lake, dataset, None) for dataset in source.datasets}
    # An empty lake asks no calendar: building one takes a second.
    expected = source.calendar.between(sessions[0], sessions[-1]) if sessions else []
    return Status(
        source=source.name,
        sessions_loaded=len(sessions),
        first_session=sessions[0] if sessions else None,
        last_session=sessions[-1] if sessions else None,
        missing=sorted(set(expected) - set(sessions)),
        incomplete=missing_objects(
            source,
            ledger,
            [session for session in sessions if source.calendar.is_session(session)],
        )
        if source.has_bars
        else {},
        ending_early=_ending_early(lake, source) if source.has_bars else {},
        failed_objects=failed,
        unoffered=before,
        objects=_counted(newest_entries(ledger.lazy()).collect(), failed, before),
        rebuild_due=misordered_entries(source.datasets, ledger.lazy()).height,
        read_otherwise=read_otherwise(source.datasets, ledger.lazy()).height,
        skipped=last_skipped(lake, source.name),
        rows_received={name: rows for name, rows in sorted(received.iter_rows()) if rows},
        refusals={name: found for name, found in refused.items() if found.refused},
        empty_sessions=sorted(set(sessions) - _with_rows(bars)) if source.has_bars else [],
        quarantine=quarantine_by_reason(lake, source.name),
    )


def _sessions_of_bars(readable: pl.DataFrame) -> list[date]:
    """The sessions that the objects of bars are about."""
    import polars as pl

    parts = readable["parts"].explode().struct.field("part").drop_nulls().to_list()
    return sorted({*parts, *readable.filter(pl.col("status") == "empty")["first_session"].to_list()})


def _ending_early(lake: Lake, source: BarSource) -> dict[date, list[str]]:
    with lake.connect() as connection:
        stored = lake.select(source.table("daily_bars"), connection)
        rows = connection.execute(
            f"""
            SELECT session, list(coalesce(symbol, instrument_id) ORDER BY turnover DESC, instrument_id)
            FROM ({stored}) WHERE is_complete IS NULL GROUP BY session ORDER BY session
            """
        ).fetchall()
    return dict(rows)


def _sessions_of_daily(lake: Lake, source: BarSource) -> list[date]:
    """The sessions that the daily series has rows of: its objects hold many years, and don't say which days."""
    with lake.connect() as connection:
        stored = lake.select(source.table("official_daily"), connection)
        rows = connection.execute(f"SELECT DISTINCT session FROM ({stored}) ORDER BY session").fetchall()
    return [session for (session,) in rows]


def _with_rows(readable: pl.DataFrame) -> set[date]:
    """The sessions of which an object's newest readable version has rows."""
    newest = newest_entries(readable.lazy()).collect()
    return set(newest["parts"].explode().struct.field("part").drop_nulls())


def _counted(newest: pl.DataFrame, failed: list[dict[str, Any]], before: list[Unoffered]) -> dict[str, int]:
    """Objects by status; of those that failed, the ones that the source still asks for, and those that it has nothing
    for.
    """
    import polars as pl

    readable = newest.filter(pl.col("status") != "failed").group_by("status").len()
    counts = dict(readable.iter_rows())
    counts |= {"failed": len(failed)} if failed else {}
    return counts | ({"not offered": len(before)} if before else {})


def publication_of(lake: Lake) -> Publication:
    """What is in the place of the published marts."""
    return Publication(None, None) if lake.warehouse is None else found_publication(lake.warehouse)
