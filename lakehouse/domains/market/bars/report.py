"""The daily report: one object per session in a target folder or bucket, with the column names set in the YAML."""

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

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Reported:
    """The result of an export: the target, the objects written, and the number of unchanged objects."""

    url: str
    written: list[str] = field(default_factory=list)
    unchanged: int = 0
    rows: int = 0


def export_report(lake: Lake, source: BarSource, sessions: Sequence[date]) -> Reported:
    """Writes the report of `sessions`, and of the later sessions whose previous close lies in them. An object
    that would not change is left alone.

    Raises:
        SourceError: the source's YAML has no report, or names a column that daily_bars lacks.
        SourceUnavailable: the target can't be written.
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
            SELECT session AS report_session, {columns} FROM ({stored})
            WHERE {predicate({"session": sessions})} OR {predicate({"prev_session": sessions})} ORDER BY ALL
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
    return result


def unreported(lake: Lake, source: BarSource, sessions: Sequence[date]) -> list[date]:
    """The sessions with daily bars whose object the target of the report lacks.

    Raises:
        SourceUnavailable: the target can't be listed.
    """
    report = source.config.report
    if report is None:
        return []
    there = names_in(store_at(source.report_url, source.report_access))
    stored = lake.table(source.table("daily_bars")).snapshot().select_dates(sessions)
    with lake.connect() as connection:
        days = connection.execute(f"SELECT DISTINCT session FROM ({stored}) ORDER BY session").fetchall()
    keys = {day: report.key.format(session=day.strftime(report.date_format)) for (day,) in days}
    return [day for day, key in keys.items() if key not in there]


def _rendered(frame: pl.DataFrame, report: Report) -> bytes:
    target = io.BytesIO()
    if report.format == "csv":
        frame.write_csv(target, date_format=report.date_format)
    else:
        frame.write_parquet(target)
    return target.getvalue()
