"""Bars that are suspect, not invalid: a price far from those of the bars around them. A query over a named relation of
bars that returns them with what makes them so.

What breaks a contract doesn't belong here, nor what is odd about whole sessions or daily bars.
"""

from __future__ import annotations

NOISE_TIMES = 6.0
"""How many times the usual move a price may be off its neighbourhood in the regular segment."""
NOISE_TIMES_EXTENDED = 18.0
"""The same before and after it, where trades that are reported late or at an average price are common."""
GRANULARITY_TICKS = 5.0
GRANULARITY_PCT = 0.5
"""How far a price may be off in any case, however quiet the instrument is: that many of its ticks, or that share of
the price if it is more.
"""
NEIGHBOURS = 15
"""Bars on each side whose moves say what is usual."""
FEWEST_BARS = 10
"""Fewer bars say nothing about what is usual."""


def suspect_bars(bars: str) -> str:
    """Traded bars with a price far off its neighbourhood, before and after: a spike that comes back.

    The filter of Brownlees and Gallo (Financial econometric analysis at ultra-high frequency, Computational
    Statistics & Data Analysis 51, 2006): |price - level| > a * scale + granularity. Their trimmed mean and trimmed
    deviation are medians and quantiles here, which a spike in a small neighbourhood doesn't move:

    - The level is the nearest of four: the close before and the open after, the median of three closes before and
      of three opens after. A lasting shift, as by news, a halt or the opening, is near one of them. Where the
      session has no bar on one side, the bar's own open or close stands for it.
    - The scale is the 75% quantile of the moves (true ranges: the bar's range and the gap to the close before),
      among the neighbours or in the instrument's segment of the session, whichever is larger.
    - The granularity is in ticks, and has a floor in percent. The tick is the last decimal of the closes or the 10%
      quantile of the neighbours' moves that aren't zero, whichever is larger.

    A verdict depends on the bars of one session only. Fewer than `FEWEST_BARS` traded bars are not judged.

    Args:
        bars: relation of the table bars, or of whole sessions of it.

    Returns: instrument_id, symbol, currency, start_at, session, price (open, high, low or close: the one that is
        off; of several the close, else the open, else the high or low), value, level, deviation_pct (of the value
        from the level, in percent; NULL where the level is not above zero).
    """
    series = "instrument_id, currency, session"
    factor = f"if(segment = 'regular', {NOISE_TIMES}, {NOISE_TIMES_EXTENDED})"
    floor = f"{GRANULARITY_PCT} / 100 * abs(close)"
    traded, in_time = f"{bars} WHERE is_traded", f"in_time AS (PARTITION BY {series} ORDER BY start_at)"
    # Most series have no bar off both of its neighbours by more than the floor: they are not looked at further.
    return f"""
        WITH moving AS MATERIALIZED (
            SELECT DISTINCT {series} FROM (
                SELECT {series}, high, low, close, coalesce(lag(close) OVER in_time, open) AS before,
                    coalesce(lead(open) OVER in_time, close) AS after
                FROM {traded} WINDOW {in_time}
            ) WHERE greatest(high - greatest(before, after), least(before, after) - low) > {floor}
        ), around AS (
            SELECT {series}, symbol, start_at, segment, open, high, low, close, row_number() OVER in_time AS number,
                lag(close) OVER in_time AS before_1, lag(close, 2) OVER in_time AS before_2,
                lag(close, 3) OVER in_time AS before_3, lead(open) OVER in_time AS after_1,
                lead(open, 2) OVER in_time AS after_2, lead(open, 3) OVER in_time AS after_3
            FROM (SELECT * FROM {traded}) SEMI JOIN moving USING ({series}) WINDOW {in_time}
        ), levels AS MATERIALIZED (
            SELECT {series}, symbol, start_at, segment, open, high, low, close, number,
                greatest(high, before_1) - least(low, before_1) AS move,
                coalesce(before_1, open) AS before, coalesce(after_1, close) AS after,
                {_median("before")} AS usual_before, {_median("after")} AS usual_after,
                greatest(before, after, usual_before, usual_after) AS upper,
                least(before, after, usual_before, usual_after) AS lower
            FROM around
        ), segments AS (
            SELECT {series}, segment, if(count(*) < {FEWEST_BARS}, 0, quantile_cont(move, 0.75)) AS scale
            FROM levels GROUP BY ALL
        ), candidates AS MATERIALIZED (
            SELECT levels.*, scale, {factor} AS times, {floor} AS granularity
            FROM levels JOIN segments USING ({series}, segment)
            WHERE greatest(high - upper, lower - low) > times * scale + granularity
        ), neighbours AS (
            SELECT {series}, candidates.number,
                quantile_cont(levels.move, 0.75) FILTER (levels.number <> candidates.number) AS scale,
                greatest(
                    pow(10, -max({_decimals("levels.close")})),
                    quantile_cont(levels.move, 0.1) FILTER (
                        levels.move > 1e-9 * abs(levels.high) AND levels.number - candidates.number NOT IN (0, 1)
                    )
                ) AS tick
            FROM levels JOIN candidates USING ({series})
            WHERE abs(levels.number - candidates.number) <= {NEIGHBOURS}
            GROUP BY ALL HAVING count(*) >= {FEWEST_BARS}
        ), judged AS (
            SELECT candidates.*, high - upper >= lower - low AS is_above, if(is_above, upper, lower) AS level,
                times * greatest(candidates.scale, neighbours.scale)
                    + greatest(granularity, {GRANULARITY_TICKS} * tick) AS allowed,
                CASE
                    WHEN if(is_above, close - upper, lower - close) > allowed THEN 'close'
                    WHEN if(is_above, open - upper, lower - open) > allowed THEN 'open'
                    WHEN is_above THEN 'high' ELSE 'low'
                END AS price,
                CASE price WHEN 'close' THEN close WHEN 'open' THEN open WHEN 'high' THEN high ELSE low END AS value
            FROM candidates JOIN neighbours USING ({series}, number)
        )
        SELECT instrument_id, symbol, currency, start_at, session, price, value, level,
            CASE WHEN level > 0 THEN round((value - level) / level * 100, 2) END AS deviation_pct
        FROM judged WHERE greatest(high - upper, lower - low) > allowed
    """


def _median(side: str) -> str:
    """SQL of the median of <side>_1, <side>_2 and <side>_3; near the session's end the first for those missing."""
    first, second, third = side + "_1", f"coalesce({side}_2, {side}_1)", f"coalesce({side}_3, {side}_1)"
    return f"greatest(least({first}, {second}), least(greatest({first}, {second}), {third}))"


def _decimals(price: str) -> str:
    """SQL of the decimals of a price, two at least: a whole price doesn't mean that one moves in steps of one."""
    return f"greatest(length(rtrim(split_part(printf('%.6f', {price}), '.', 2), '0')), 2)"
