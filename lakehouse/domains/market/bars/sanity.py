"""What looks wrong in market data without being invalid, and what must agree: queries over named relations that
return the offenders.
"""

from __future__ import annotations

from lakehouse.domains.market.bars.rules import DAILY_KEY

TRAILING_SESSIONS = 20
REGULAR_SESSIONS = 5
"""An instrument traded in each of that many sessions before is expected in the next."""


def daily_differences(daily: str, bars: str) -> str:
    """Daily rows that don't say what their bars say, found by another way than they were made: each bar is held
    against its daily row.

    One equi-join on the daily key, on purpose: joining the bars to themselves has led DuckDB's optimizer to
        plans that grow with the square of a day.

    Grouping by a number is faster than by texts, and so is adding in any order. Whole volumes below 2^53 add up
    exactly in each order; only the others are added in the order of time.

    Args:
        daily: relation of daily_bars.
        bars: relation of the traded bars of the regular segment.

    Returns: instrument_id, currency, session, difference.
    """
    key = ", ".join(DAILY_KEY)
    said = ("open", "high", "low", "close", "volume", "trades", "bar_count", "first_bar_at", "last_bar_at")
    return f"""
        WITH daily AS MATERIALIZED (
            SELECT {key}, {", ".join(said)}, dense_rank() OVER (ORDER BY {key}) AS number FROM {daily}
        ),
        bars AS MATERIALIZED (
            SELECT {", ".join(f"bars.{column}" for column in DAILY_KEY)}, number, start_at,
                bars.open, bars.high, bars.low, bars.close, bars.volume, bars.trades, first_bar_at, last_bar_at
            FROM {bars} AS bars LEFT JOIN daily USING ({key})
        ),
        made AS MATERIALIZED (
            SELECT number, any_value(open) FILTER (start_at = first_bar_at) AS open,
                max(high) AS high, min(low) AS low, any_value(close) FILTER (start_at = last_bar_at) AS close,
                fsum(volume) AS volume, TRY_CAST(sum(trades) AS BIGINT) AS trades,
                count(*) AS bar_count, min(start_at) AS first_bar_at, max(start_at) AS last_bar_at,
                coalesce(bool_and(volume = trunc(volume)) AND sum(abs(volume)) < pow(2, 53), true) AS is_exact
            FROM bars WHERE number IS NOT NULL GROUP BY number
        ),
        added AS (
            SELECT number, fsum(volume ORDER BY start_at) AS volume FROM bars
            WHERE number IN (SELECT number FROM made WHERE NOT is_exact) GROUP BY number
        ),
        found AS (
            SELECT made.* REPLACE (if(is_exact, made.volume, added.volume) AS volume)
            FROM made LEFT JOIN added USING (number)
        )
        SELECT {key}, 'values differ' AS difference
        FROM found JOIN (SELECT DISTINCT ON (number) * FROM daily) AS said USING (number)
        WHERE ({", ".join(f"said.{column}" for column in said)})
            IS DISTINCT FROM ({", ".join(f"found.{column}" for column in said)})
        UNION ALL SELECT DISTINCT {key}, 'has bars but no daily bar' FROM bars WHERE number IS NULL
        UNION ALL SELECT {key}, 'has a daily bar but no bars' FROM daily ANTI JOIN made USING (number)
    """


def appeared_and_vanished(daily: str) -> str:
    """Instruments that trade for the first time, and instruments that traded in every one of the sessions
    before but not in this one.

    The first sessions of a lake, where everything is new, are left out.

    Returns: session, instrument_id, symbol, currency, what (appeared, vanished), turnover (of that session, or
        of the one before).
    """
    return f"""
        WITH sessions AS (
            SELECT session, row_number() OVER (ORDER BY session) AS number FROM (SELECT DISTINCT session FROM {daily})
        ), rows AS (
            SELECT instrument_id, symbol, currency, session, turnover, prev_session, number
            FROM {daily} JOIN sessions USING (session)
        ), runs AS (
            SELECT *, count(*) OVER last_ones AS recent, lead(number) OVER series AS following
            FROM rows WINDOW
                series AS (PARTITION BY instrument_id, currency ORDER BY number),
                last_ones AS (
                    PARTITION BY instrument_id, currency ORDER BY number
                    RANGE BETWEEN {REGULAR_SESSIONS - 1} PRECEDING AND CURRENT ROW
                )
        )
        SELECT session, instrument_id, symbol, currency, 'appeared' AS what, turnover
        FROM rows WHERE prev_session IS NULL AND number > {REGULAR_SESSIONS}
        UNION ALL
        SELECT missed.session, instrument_id, symbol, currency, 'vanished' AS what, turnover
        FROM runs JOIN sessions AS missed ON missed.number = runs.number + 1
        WHERE recent = {REGULAR_SESSIONS} AND following IS DISTINCT FROM runs.number + 1
    """


def unusual_volume(daily: str) -> str:
    """Sessions whose total volume is below a third or above three times the median of the sessions before (at
    least five of them).

    Returns: session, volume, trailing_median, ratio.
    """
    return f"""
        WITH totals AS (SELECT session, sum(volume) AS volume FROM {daily} GROUP BY session),
        compared AS (
            SELECT session, volume, median(volume) OVER before AS trailing_median, count(*) OVER before AS sessions
            FROM totals WINDOW before AS (ORDER BY session ROWS BETWEEN {TRAILING_SESSIONS} PRECEDING AND 1 PRECEDING)
        )
        SELECT session, volume, trailing_median, round(volume / trailing_median, 3) AS ratio FROM compared
        WHERE sessions >= 5 AND (volume < trailing_median / 3 OR volume > trailing_median * 3)
    """
