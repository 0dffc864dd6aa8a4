"""Bars of a longer interval, made of the stored ones when they are read.

A longer bar never crosses a session or a segment. Its intervals are counted from the session's opening, as exchanges
do (an hour in New York begins at 9:30), or from the beginning of the stored bar that the opening falls into. Where the
opening is on the interval's own grid, they are those of the clock. At a segment's ends a bar is shorter, and `1d` is
the whole segment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.derive import session_hours
from lakehouse.domains.market.bars.rules import OF_TRADED_BARS
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.lake.engine import add_frame
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

DEFAULT = "5min"
_UNITS_US = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DAY_US = _UNITS_US["d"]


def longer(bars: str, hours: str, interval: str, stored: timedelta) -> str:
    """The query for bars of a longer interval; it fails where the interval can't be made of the stored bars.

    Args:
        bars: relation of the table bars.
        hours: relation of (session, open_at, regular_end_at).
        interval: SQL text for the interval, such as `'5min'` with the quotes: a number and s, min, h or d.
        stored: length of a stored bar.

    Returns: instrument_id, symbol, name, instrument_type, currency, interval, session, segment, start_at, end_at, open,
        high, low, close, volume, trades, vwap, bar_count (traded bars that it is made of).
    """
    return f"""
        WITH placed AS (
            SELECT bars.*, open_at, regular_end_at, {_microseconds(interval, stored)} AS step,
                epoch_us(end_at) - epoch_us(start_at) AS length, epoch_us(start_at) - epoch_us(open_at) AS since_open,
                -- How far before the opening the stored bar begins that it falls into.
                ((-since_open) % length + length) % length AS lead
            FROM {bars} AS bars JOIN {hours} USING (session) WHERE is_traded
        ), bounded AS (
            SELECT *, CASE WHEN step < {_DAY_US} THEN floor((since_open + lead) / step)::BIGINT END AS number,
                open_at + to_microseconds(number * step - lead) AS begins, begins + to_microseconds(step) AS ends
            FROM placed
        )
        SELECT instrument_id, arg_max_null(symbol, start_at) AS symbol, arg_max_null(name, start_at) AS name,
            arg_max_null(instrument_type, start_at) AS instrument_type, currency,
            {interval} AS "interval", session, segment,
            -- Limits that don't exist are NULL, which least and greatest pass over.
            least(min(start_at), greatest(
                min(begins), min(CASE segment WHEN 'regular' THEN open_at WHEN 'post' THEN regular_end_at END)
            )) AS start_at,
            greatest(max(end_at), least(
                max(ends), max(CASE segment WHEN 'pre' THEN open_at WHEN 'regular' THEN regular_end_at END)
            )) AS end_at,
            {OF_TRADED_BARS}, count(*) AS bar_count
        FROM bounded GROUP BY instrument_id, currency, session, segment, number
    """


def _microseconds(interval: str, stored: timedelta) -> str:
    """SQL for the length of an interval."""
    units = " ".join(f"WHEN '{unit}' THEN {length}" for unit, length in _UNITS_US.items())
    number = rf"regexp_extract({interval}, '^\d+')::BIGINT"
    length = rf"{number} * (CASE regexp_extract({interval}, '[a-z]+$') {units} END)"
    each = stored // timedelta(microseconds=1)
    return rf"""
        CASE
            WHEN NOT regexp_full_match({interval}, '[1-9]\d{{0,8}}(s|min|h|d)')
                THEN error('interval ''' || {interval} || ''' is not a number followed by s, min, h or d')::BIGINT
            WHEN {length} > {_DAY_US}
                THEN error('interval ''' || {interval} || ''' is longer than 1d: a bar belongs to one session')::BIGINT
            WHEN {length} % {each} <> 0 THEN error(
                'interval ''' || {interval} || ''' is not a multiple of the stored bars'' {stored.total_seconds():g} s'
            )::BIGINT
            ELSE {length}
        END
    """


def bars_of_interval(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> None:
    """Makes the table macro `<source>.bars(interval)` in `connection`, which goes with the view of that name."""
    hours = f"hours_of_{source.name}"
    add_frame(connection, hours, session_hours(source))
    stored = f"({lake.select(source.table('bars'), connection)})"
    query = longer(stored, hours, '"interval"', source.bars_config.interval_length)
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{source.name}"')
    connection.execute(f"""CREATE OR REPLACE MACRO "{source.name}".bars("interval" := '{DEFAULT}') AS TABLE {query}""")
