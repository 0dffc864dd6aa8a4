"""From revisions to bars, from bars to daily bars: the rules, as DuckDB queries over named relations.

Every function takes the names of relations (or parenthesised queries) and returns a query. None of them reads
or writes a table, so they serve the current lake, the lake as of a past moment, and a rebuild alike.
"""

from __future__ import annotations

from dataclasses import replace

from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.domains.market.bars.ending import falls_silent
from lakehouse.lake.sql import Relation

BAR_KEY = ("instrument_id", "currency", "interval", "start_at")

BARS = RevisionRule(
    key=BAR_KEY,
    content=(
        "symbol",
        "name",
        "instrument_type",
        "vendor_id",
        "end_at",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "trades",
        "vwap",
        "vendor_revision",
        "is_adjusted",
    ),
    part="session",
    first_by=("vendor_revision",),
)
"""Rows of raw_bars."""

BARS_BY_MARKET = replace(BARS, content=(*BARS.content, "mic"))
"""Rows of raw_bars of a source with several markets."""

SEGMENT = """CASE
                WHEN end_at <= open_at THEN 'pre' WHEN start_at < regular_end_at THEN 'regular' ELSE 'post'
            END"""
"""The segment of a bar beside the hours of its session (SQL)."""

TRADED = "coalesce(volume > 0, true)"
"""Whether a bar is of trades: a vendor without volumes has no others (SQL)."""

DAILY_KEY = ("instrument_id", "currency", "session")

_IN_TIME = """
    list_sort(list({'at': start_at, 'volume': volume, 'turnover': close * volume, 'by_vwap': vwap * volume}))
"""
"""The terms of sums over bars, in the order of time (SQL). They are sorted once for all sums: an ORDER BY in each
aggregate sorts for each, which was three quarters of the time of daily bars.
"""


def _summed(term: str, by: str = "sum") -> str:
    """The SQL for the sum of a term of `_IN_TIME` by an aggregate; NULL if no bar has the term."""
    return f"list_aggregate([bar.{term} for bar in {_IN_TIME}], '{by}')"


OF_TRADED_BARS = f"""
    arg_min(open, start_at) AS open, max(high) AS high, min(low) AS low, arg_max(close, start_at) AS close,
    {_summed("volume", "fsum")} AS volume, TRY_CAST(sum(trades) AS BIGINT) AS trades,
    CASE WHEN count(vwap) = count(*) THEN {_summed("by_vwap")} / {_summed("volume", "fsum")} END AS vwap
"""
"""What several traded bars of an instrument are together (SQL)."""


def bars(raw: Relation, ledger: Relation, hours: str, *, by_market: bool = False) -> str:
    """The rows of the table bars.

    Args:
        raw: relation of raw_bars.
        ledger: relation of the source's ledger.
        hours: relation of (session, open_at, regular_end_at). A bar that overlaps this stretch is of the regular
            segment: start_at < regular_end_at and end_at > open_at.
        by_market: the source has several markets, which its bars name.
    """
    rule, mic = (BARS_BY_MARKET, ", mic") if by_market else (BARS, "")
    return f"""
        SELECT instrument_id, symbol, name, instrument_type, currency, interval, start_at, end_at, session,
            {SEGMENT} AS segment,
            open, high, low, close, volume, trades, vwap, {TRADED} AS is_traded, is_adjusted,
            object, object_version, row_number, published_at, ingested_at{mic}
        FROM ({winners(raw, ledger, rule)}) JOIN {hours} USING (session)
    """


def daily(bars_relation: str, completeness: str, time_zone: str, *, by_market: bool = False) -> str:
    """Daily bars without what depends on earlier sessions: one row per instrument, currency and session with a
    traded regular bar.

    Sums of volumes and prices run in the order of time, so that they don't depend on the order in which threads add;
    those of volumes are compensated (Kahan), so that fractions add up to what people would write.
    The bounds of the raw contract keep each of them finite. A number of trades beyond 64 bits is NULL, and so are
    volume, turnover and vwap of bars without a volume.

    Args:
        bars_relation: relation of the table bars.
        completeness: relation of (session, is_complete, open_at, close_at): whether every object came, and the hours of
            the session.
        time_zone: the venue's, on whose clock a publication falls on a day.
        by_market: the source has several markets, which its bars name.
    """
    mic = ", arg_max(mic, start_at) AS mic" if by_market else ""
    # As numbers: DuckDB subtracts moments by a calendar, which is a quarter of the time of daily bars.
    opened, closed, ended = (
        f"epoch_us({moment})" for moment in ("any_value(open_at)", "any_value(close_at)", "max(end_at)")
    )
    silent = falls_silent(
        "count(*)",
        "(min(epoch_us(end_at) - epoch_us(start_at)) / 1e6)",
        f"(({ended} - {opened}) / 1e6)",
        f"(({closed} - {ended}) / 1e6)",
    )
    return f"""
        SELECT date_trunc('year', session)::DATE AS year, instrument_id,
            arg_max_null(symbol, start_at) AS symbol, arg_max_null(name, start_at) AS name,
            arg_max_null(instrument_type, start_at) AS instrument_type,
            currency, session, {OF_TRADED_BARS},
            {_summed("turnover")} AS turnover,
            count(*) AS bar_count, min(start_at) AS first_bar_at, max(start_at) AS last_bar_at{mic},
            timezone('{time_zone}', max(published_at) FILTER (is_adjusted))::DATE AS adjusted_as_of,
            CASE WHEN any_value(is_complete) AND ({silent}) THEN NULL ELSE any_value(is_complete) END AS is_complete
        FROM {bars_relation} JOIN {completeness} USING (session)
        WHERE is_traded AND segment = 'regular'
        GROUP BY instrument_id, currency, session
    """


def with_previous(rows: str, closes: str) -> str:
    """Adds prev_session, prev_close and change_pct to daily rows.

    Args:
        rows: relation of daily rows without these three columns.
        closes: relation of (instrument_id, currency, session, close), of every session that may come before one
            of `rows`.
    """
    return f"""
        SELECT rows.*, earlier.session AS prev_session, earlier.close AS prev_close,
            CASE WHEN earlier.close > 0 THEN (rows.close / earlier.close - 1) * 100 END AS change_pct
        FROM {rows} AS rows ASOF LEFT JOIN {closes} AS earlier
            ON rows.instrument_id = earlier.instrument_id AND rows.currency = earlier.currency
            AND rows.session > earlier.session
    """
