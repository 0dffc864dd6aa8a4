"""An instrument's symbols and names over time, as a view of its daily rows.

The stretches follow the sessions of the data, not the time of loading, so that backfills and corrections in any order
give the same. `marts.dim_instrument` has them over all sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.source import BarSource
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb


def symbols(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.symbols`: by the daily bars, or by the official series of a source without bars."""
    if source.has_bars:
        return stretches(f"({lake.select(source.table('daily_bars'), connection)})")
    official = f"(SELECT *, NULL::VARCHAR AS name FROM ({lake.select(source.table('official_daily'), connection)}))"
    return stretches(official)


def stretches(daily: str) -> str:
    """The rows of the view.

    Args:
        daily: relation of (instrument_id, currency, session, symbol, name), one row per instrument, currency and
            session.
    """
    return f"""
        WITH numbered AS (
            SELECT *, sum(is_new::INT) OVER series AS stretch FROM (
                SELECT instrument_id, currency, session, symbol, name,
                    (symbol, name) IS DISTINCT FROM lag((symbol, name)) OVER series AS is_new
                FROM {daily} WINDOW series AS (PARTITION BY instrument_id, currency ORDER BY session)
            ) WINDOW series AS (PARTITION BY instrument_id, currency ORDER BY session)
        )
        SELECT instrument_id, currency, any_value(symbol) AS symbol, any_value(name) AS name,
            min(session) AS valid_from,
            lead(min(session)) OVER (PARTITION BY instrument_id, currency ORDER BY stretch) AS valid_to,
            max(session) AS last_session
        FROM numbered GROUP BY instrument_id, currency, stretch
    """
