"""Tables as of a past moment: derived again, by the same rules, from the revisions known then. The contracts of
the derived tables name these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.completeness import completeness
from lakehouse.domains.market.bars.config import SourceConfig, source_named
from lakehouse.domains.market.bars.derive import session_hours
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.ingest.dataset import Bars, OfficialDaily, Product
from lakehouse.ingest.ledger import LEDGER
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb


def bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """The query for `<source>.bars` as of `lake.as_of`."""
    config = source_named(source)
    hours = f"hours_of_{source}"
    connection.register(hours, session_hours(config, config.calendar_frame()))
    return rules.bars(*_raw_and_ledger(lake, connection, config, Bars), hours)


def daily_bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """The query for `<source>.daily_bars` as of `lake.as_of`."""
    config = source_named(source)
    calendar = config.calendar_frame()
    raw, ledger = _raw_and_ledger(lake, connection, config, Bars)
    known = f"completeness_of_{source}"
    sessions = [
        session for (session,) in connection.execute(f"SELECT DISTINCT session FROM {raw} ORDER BY 1").fetchall()
    ]
    loaded = connection.execute(f"FROM {ledger}").pl()
    connection.register(known, completeness(config, calendar, loaded, sessions))
    made = rules.daily(f"({bars(lake, connection, source)})", known, config.venue.time_zone, config.bars.volume_unit)
    columns = ", ".join(f'"{name}"' for name in lake.table(config.table("daily_bars")).contract.column_names)
    return f"WITH daily AS MATERIALIZED ({made}) SELECT {columns} FROM ({rules.with_previous('daily', 'daily')})"


def official_daily(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """The query for `<source>.official_daily` as of `lake.as_of`."""
    return official.official_daily(*_raw_and_ledger(lake, connection, source_named(source), OfficialDaily))


def corporate_actions(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """The query for `<source>.corporate_actions` as of `lake.as_of`: those that were known then."""
    return official.corporate_actions(*_raw_and_ledger(lake, connection, source_named(source), OfficialDaily))


def _raw_and_ledger(
    lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig, product: type[Product]
) -> tuple[str, str]:
    """Relations of a product's raw rows and of its rows of the ledger, the latter as of `lake.as_of`: it says which of
    the former count.
    """
    ledger = f"SELECT * FROM ({lake.select(LEDGER, connection, {'source': [config.source]})})"
    return (
        f"({lake.table(config.table(product.raw_table)).snapshot().select()})",
        f"({ledger} WHERE product = {literal(product.name)})",
    )
