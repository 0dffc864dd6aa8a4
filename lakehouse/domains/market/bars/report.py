"""The daily report: one object a session in a target folder or bucket, with the columns that its reader's YAML
names.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.config import Report, SourceConfig, SourceError
from lakehouse.ingest.access import FROM_ENVIRONMENT
from lakehouse.ingest.object_store import TARGET_PLACES, put_if_changed, require_known, store_at
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import predicate
from lakehouse.settings import Settings, settings

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Reported:
    """What was exported: where to, the objects that were written, and how many stood there already with the
    same content.
    """

    url: str
    written: list[str] = field(default_factory=list)
    unchanged: int = 0
    rows: int = 0


def report_url(config: SourceConfig, report: Report, at: Settings) -> str:
    """Where the reports go: the environment, the YAML, or `<home>/reports/<source>`.

    Raises:
        SourceError: reports can't be written to a URL of that kind.
    """
    url = at.source_variable(config.source, "report_url") or report.url or str(at.home / "reports" / config.source)
    require_known(url, TARGET_PLACES)
    return url


def export_report(lake: Lake, config: SourceConfig, sessions: Sequence[date]) -> Reported:
    """Writes the report of `sessions`, and of the later sessions whose previous close lies in them. An object
    that would not change is left alone.

    Raises:
        SourceError: the source's YAML has no report, or names a column that daily_bars lacks.
        SourceUnavailable: the target can't be written.
    """
    report = config.report
    if report is None:
        raise SourceError(f"the defs.yaml of {config.source} has no `report`")
    table = lake.table(config.table("daily_bars"))
    unknown = sorted(set(report.columns.values()) - set(table.contract.column_names))
    if unknown:
        raise SourceError(
            f"report of {config.source}: {', '.join(unknown)} is no column of daily_bars; "
            f"it has {', '.join(table.contract.column_names)}"
        )
    url = report_url(config, report, settings())
    result = Reported(url)
    if not sessions:
        return result
    columns = ", ".join(f'"{column}" AS "{target}"' for target, column in report.columns.items())
    with lake.connect() as connection:
        snapshot, first = table.snapshot(), str(min(sessions).replace(day=1))
        stored = snapshot.select({"month": [month for month in snapshot.partition_values("month") if month >= first]})
        rows = connection.execute(
            f"""
            SELECT session AS report_session, {columns} FROM ({stored})
            WHERE {predicate({"session": sessions})} OR {predicate({"prev_session": sessions})} ORDER BY ALL
            """
        ).pl()
    store = store_at(url, report.access.resolve(settings().secret) if report.access else FROM_ENVIRONMENT)
    for (session,), frame in rows.partition_by("report_session", as_dict=True, include_key=False).items():
        key = report.key.format(session=session.strftime(report.date_format))
        if put_if_changed(store, key, _rendered(frame, report)):
            result.written.append(key)
        else:
            result.unchanged += 1
        result.rows += frame.height
    return result


def _rendered(frame: pl.DataFrame, report: Report) -> bytes:
    target = io.BytesIO()
    if report.format == "csv":
        frame.write_csv(target, date_format=report.date_format)
    else:
        frame.write_parquet(target)
    return target.getvalue()
