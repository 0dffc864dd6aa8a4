"""Tables as of a past moment: derived again, by the same rules, from the revisions known then. The contracts of
bars and daily_bars name these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import LEDGER
from lakehouse.market import bars as rules
from lakehouse.pipeline.completeness import completeness
from lakehouse.pipeline.derive import session_hours
from lakehouse.sources.config import BarFileConfig, source_named

if TYPE_CHECKING:
    import duckdb


def bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """The query for `<source>.bars` as of `lake.as_of`."""
    config = source_named(source)
    hours = f"hours_of_{source}"
    connection.register(hours, session_hours(config, config.calendar_frame()))
    return rules.bars(
        f"({lake.select(config.table('raw_bars'), connection)})", f"({_ledger(lake, connection, config)})", hours
    )


def daily_bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """The query for `<source>.daily_bars` as of `lake.as_of`."""
    config = source_named(source)
    calendar = config.calendar_frame()
    ledger = connection.execute(_ledger(lake, connection, config)).pl()
    known = f"completeness_of_{source}"
    connection.register(known, completeness(config, calendar, ledger, calendar.until_today(config.first_session)))
    daily = f"WITH daily AS MATERIALIZED ({rules.daily(f'({bars(lake, connection, source)})', known)})"
    columns = ", ".join(f'"{name}"' for name in lake.table(config.table("daily_bars")).contract.column_names)
    return f"{daily} SELECT {columns} FROM ({rules.with_previous('daily', 'daily')})"


def _ledger(lake: Lake, connection: duckdb.DuckDBPyConnection, config: BarFileConfig) -> str:
    return f"SELECT * FROM ({lake.select(LEDGER, connection, {'source': [config.source]})})"
