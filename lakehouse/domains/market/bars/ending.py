"""Tells sessions whose bars end early from sessions that were traded to their close.

A vendor's file that was cut, or published before the day was over, has no error in it: every object came, and every row
is sound. What it lacks shows in its own bars only, against the calendar's hours and the instrument's earlier sessions.
Here are both comparisons, as SQL; `rules.daily` stores the first one's outcome as `is_complete`, and `checks` warns of
both. Which objects came is `completeness`'s.

An instrument that trades now and then tells nothing by its silence, so only those count that trade in at least half of
the intervals, and a silence only where their own trading makes it less likely than one in a hundred.
"""

from __future__ import annotations

LIQUID = 0.5
"""Share of the intervals in which an instrument has to trade."""
UNLIKELY = 0.01
LEAST_BARS = 3
SILENT_SHARE = 0.15
"""Share of a session that has to be silent, judged by the session alone. A market that closes early one day a week, as
currencies do on Fridays in a calendar of whole days, is silent for less.
"""
EXCESS_SHARE = 0.05
"""Share of a session that has to be silent beyond what is usual, judged by earlier sessions."""
FEW = 0.5
"""Share of the usual number of bars below which a session has few."""
SESSIONS_BEFORE = 20
LEAST_SESSIONS = 5


def falls_silent(bars: str, interval_s: str, elapsed_s: str, silent_s: str) -> str:
    """The SQL predicate that an instrument which traded steadily fell silent long before the close.

    It depends on the session's own bars and hours alone, so that a stored outcome never depends on other sessions.

    Args:
        bars: SQL for the number of traded bars; likewise `interval_s`, the length of one in seconds.
        elapsed_s: SQL for the seconds from the open to the end of the last bar, and `silent_s` from there to the close.
    """
    elapsed, silent = f"({elapsed_s}) / {interval_s}", f"greatest(({silent_s}) / {interval_s}, 0)"
    # Laplace's rule of succession: three bars of three say less than three hundred of three hundred.
    density = f"least(({bars} + 1) / ({elapsed} + 2), 1)"
    return f"""
        {bars} >= {LEAST_BARS} AND {bars} >= {LIQUID} * {elapsed}
        AND {silent_s} >= {SILENT_SHARE} * ({elapsed_s} + {silent_s}) AND power(1 - {density}, {silent}) < {UNLIKELY}
    """


def early_ends(daily: str, hours: str, interval_s: float) -> str:
    """Daily bars of sessions whose bars end early or are few, by the session's own bars or by the (at least five)
    sessions before. What is usual may happen in one of five of these.

    Args:
        daily: relation of daily_bars. Sessions that miss an object are no findings; `session_complete` has them.
        hours: relation of (session, open_at, close_at) of the sessions that are over.
        interval_s: the length of a bar in seconds.

    Returns: session, instrument_id, symbol, currency, what (ends early, few bars), last_end_at, close_at, silent_s,
        bar_count, usual_bars, turnover.
    """
    return f"""
        WITH rows AS (
            SELECT session, instrument_id, symbol, currency, bar_count, turnover, is_complete, close_at,
                last_bar_at + to_microseconds({round(interval_s * 1_000_000)}::BIGINT) AS last_end_at,
                greatest(epoch(close_at) - epoch(last_end_at), 0) AS silent_s,
                greatest(epoch(close_at) - epoch(open_at), {interval_s}) AS session_s
            FROM {daily} JOIN {hours} USING (session)
        ), compared AS (
            SELECT *, silent_s / session_s AS silent, bar_count * {interval_s} / session_s AS density,
                count(*) OVER before AS earlier, median(bar_count * {interval_s} / session_s) OVER before AS usual,
                list(silent_s / session_s) OVER before AS silences
            FROM rows WINDOW before AS (
                PARTITION BY instrument_id, currency ORDER BY session
                ROWS BETWEEN {SESSIONS_BEFORE} PRECEDING AND 1 PRECEDING
            )
        ), judged AS (
            SELECT *, earlier >= {LEAST_SESSIONS} AND usual >= {LIQUID} AS is_known,
                greatest(silent - list_reverse_sort(silences)[earlier // 5], 0) AS excess
            FROM compared
        )
        SELECT session, instrument_id, symbol, currency,
            CASE
                WHEN is_complete IS NULL THEN 'ends early'
                WHEN is_known AND excess >= {EXCESS_SHARE}
                    AND power(1 - least(usual, 1), excess * session_s / {interval_s}) < {UNLIKELY} THEN 'ends early'
                WHEN is_known AND density < {FEW} * usual THEN 'few bars'
            END AS what,
            last_end_at, close_at, silent_s, bar_count,
            CASE WHEN is_known THEN usual * session_s / {interval_s} END AS usual_bars, turnover
        FROM judged WHERE is_complete IS DISTINCT FROM false AND what IS NOT NULL
    """
