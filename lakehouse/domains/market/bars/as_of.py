"""Tables as of a past moment: derived again, by the same rules, from the revisions known then."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import partitions_as_of, raw_and_ledger
from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.completeness import completeness
from lakehouse.domains.market.bars.derive import bar_rows
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb


bars = partial(partitions_as_of, "bars", bar_rows)
"""The query for `<source>.bars` as of `lake.as_of`."""


def daily_bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.daily_bars` as of `lake.as_of`."""
    raw, ledger = raw_and_ledger("bars", lake, connection, source)
    known = f"completeness_of_{source.name}"
    sessions = [
        session for (session,) in connection.execute(f"SELECT DISTINCT session FROM {raw} ORDER BY 1").fetchall()
    ]
    loaded = connection.sql(f"FROM {ledger}").pl()
    connection.register(known, completeness(source, loaded, sessions))
    made = rules.daily(f"({bars(lake, connection, source)})", known, source.config.venue.time_zone)
    columns = ", ".join(f'"{name}"' for name in source.contract("daily_bars").column_names)
    return f"WITH daily AS MATERIALIZED ({made}) SELECT {columns} FROM ({rules.with_previous('daily', 'daily')})"


def official_daily(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.official_daily` as of `lake.as_of`."""
    return official.official_daily(*raw_and_ledger("official_daily", lake, connection, source))


def corporate_actions(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.corporate_actions` as of `lake.as_of`: those that were known then."""
    return official.corporate_actions(*raw_and_ledger("official_daily", lake, connection, source))
