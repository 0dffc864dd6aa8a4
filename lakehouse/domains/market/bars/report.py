"""The daily report: one object per session in a target folder or bucket, and the same rows in a table of PostgreSQL
where the YAML names one, with the column names set in the YAML.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.config import Report
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.errors import SourceError
from lakehouse.ingest.object_store import names_in, put_if_changed, store_at
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, predicate
from lakehouse.servers.postgres import database
from lakehouse.servers.tables import Slice, Written, values_in, write_rows

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Reported:
    """The result of an export: the target, the objects written, and the number of unchanged objects."""

    url: str
    written: list[str] = field(default_factory=list)
    unchanged: int = 0
    rows: int = 0
    table_rows: Written = field(default_factory=lambda: Written(0, 0))


def export_report(lake: Lake, source: BarSource, sessions: Sequence[date]) -> Reported:
    """Writes the report of `sessions`, and of the later sessions whose previous close lies in them. An object or a
    row that would not change is left alone.

    Raises:
        SourceError: the source's YAML has no report, or names a column that daily_bars lacks.
        SourceUnavailable: the target can't be written.
        DatabaseUnavailable: the database of the report's table can't be reached.
    """
    report = source.config.report
    if report is None:
        raise SourceError(f"the defs.yaml of {source.name} has no `report`")
    table = lake.table(source.table("daily_bars"))
    unknown = sorted(set(report.columns.values()) - set(table.contract.column_names))
    if unknown:
        raise SourceError(
            f"report of {source.name}: {', '.join(unknown)} is no column of daily_bars; "
            f"it has {', '.join(table.contract.column_names)}"
        )
    url = source.report_url
    result = Reported(url)
    if not sessions:
        return result
    columns = ", ".join(f'"{column}" AS "{target}"' for target, column in report.columns.items())
    with lake.connect() as connection:
        stored = table.snapshot().select_where(f"session >= {literal(min(sessions))}")
        rows = connection.sql(
            f"""
            WITH stored AS ({stored})
            SELECT session AS report_session, {columns} FROM stored
            WHERE {predicate({"session": sessions})} OR session IN (
                SELECT session FROM stored WHERE {predicate({"prev_session": sessions})}
            ) ORDER BY ALL
            """
        ).pl()
    store = store_at(url, source.report_access)
    for (session,), frame in rows.partition_by("report_session", as_dict=True, include_key=False).items():
        key = report.key.format(session=session.strftime(report.date_format))
        if put_if_changed(store, key, _rendered(frame, report)):
            result.written.append(key)
        else:
            result.unchanged += 1
        result.rows += frame.height
    if report.table is not None:
        day = next(target for target, column in report.columns.items() if column == "session")
        part = Slice(day, sorted({*sessions, *rows["report_session"]}))
        with database(source.report_database) as found:
            result.table_rows = write_rows(found, report.table.place, rows.drop("report_session"), part)
    return result


def unreported(lake: Lake, source: BarSource, sessions: Sequence[date]) -> list[date]:
    """The sessions with daily bars whose object the target of the report lacks, or its table.

    Raises:
        SourceUnavailable: the target can't be listed.
        DatabaseUnavailable: the database of the report's table can't be reached.
    """
    report = source.config.report
    if report is None:
        return []
    there = names_in(store_at(source.report_url, source.report_access))
    in_table = _sessions_in_table(source, report, sessions)
    stored = lake.table(source.table("daily_bars")).snapshot().select_dates(sessions)
    with lake.connect() as connection:
        days = connection.execute(f"SELECT DISTINCT session FROM ({stored}) ORDER BY session").fetchall()
    keys = {day: report.key.format(session=day.strftime(report.date_format)) for (day,) in days}
    return [day for day, key in keys.items() if key not in there or (in_table is not None and day not in in_table)]


def _sessions_in_table(source: BarSource, report: Report, sessions: Sequence[date]) -> set[object] | None:
    """The sessions that the report's table has rows of; None if the report has no table."""
    if report.table is None or not sessions:
        return None
    day = next(target for target, column in report.columns.items() if column == "session")
    with database(source.report_database) as found:
        return values_in(found, report.table.place, day, min(sessions), max(sessions))


def _rendered(frame: pl.DataFrame, report: Report) -> bytes:
    target = io.BytesIO()
    if report.format == "csv":
        frame.write_csv(target, date_format=report.date_format)
    else:
        frame.write_parquet(target)
    return target.getvalue()
