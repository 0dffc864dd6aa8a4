"""Splits in a series of closes: those that corporate actions announce, and jumps that look like one that none does. A
DuckDB query over named relations.

Belongs here: which split counts in which session. What a split does to earlier prices belongs in `adjustment`.
"""

from __future__ import annotations

from lakehouse.lake.sql import Query, Relation

SERIES = "source, instrument_id, currency"
RATIOS = (
    (3, 2),
    (5, 2),
    *((new, 1) for new in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100)),
)
"""New shares for old ones, as companies split; each also the other way round. Not the rare 4:3 and 5:4: shares move by
20 or 25% on news, with about as much volume (Diebold Nixdorf on 2017-07-06).
"""
USUAL_SESSIONS = 20
"""Earlier sessions whose medians say what volume and what move are usual."""
LEAST_TOLERANCE, MOST_TOLERANCE = 0.02, 0.05
NOISE_TIMES = 4.0
"""The price may be off the ratio by so many usual moves, within these bounds (of its logarithm): on its ex-date a
share moves as on any other day.
"""
JUMP_TIMES = 8.0
"""A jump is at least so many usual moves: what often moves by a third is not splitting."""
VOLUME_TIMES = 3.0
"""The volume may be off the ratio by this factor, and is nearer to it than to the usual volume."""
_MOST_SHARES = 1e300
"""Bound of a product of splits, so that it is a number above zero, however many there are."""
SAME_SPLIT_DAYS = 7
"""Two sources that date a split apart by no more mean the same one."""


def session_splits(closes: Relation, splits: Relation) -> Query:
    """The sessions in which splits count, or that look like the first one after a split that no action announces.

    A split counts in the first session from its ex-date on. It belongs to the instrument: one that another source
    knows, or the same one in another currency, counts too, unless a nearer source dates it within
    `SAME_SPLIT_DAYS`. Identifiers of other sources mean the same instrument where the currency is the same, or where
    they are ISINs.

    A jump of the close that is left is a suspected split where all of this holds: it is close to one of `RATIOS` or
    its inverse, it is large against the instrument's usual moves, and the volume changed with the number of shares.
    A share that doubles on news is traded more, one that is consolidated 1:2 half as much.

    Args:
        closes: relation of (source, instrument_id, currency, session, close, volume, adjusted_as_of), the closes as
            traded as far as the source's own actions are known.
        splits: relation of (source, instrument_id, currency, ex_date, split_factor), factors in new shares for one old.

    Returns: source, instrument_id, currency, session, split_factor (product of the splits that count; 1 without),
        suspected_split (as '3:1', new shares for old ones; NULL where nothing is suspected).
    """
    both_ways = [pair for new, old in RATIOS for pair in ((new, old), (old, new))]
    ratios = ", ".join(f"('{new}:{old}', ln({new} / {old}))" for new, old in both_ways)
    return Query(f"""
        WITH bars AS (
            SELECT {SERIES}, session, close, volume, lag(session) OVER series AS prev_session,
                lag(close) OVER series AS prev_close, lag(adjusted_as_of) OVER series AS prev_basis
            FROM {closes} WINDOW series AS (PARTITION BY {SERIES} ORDER BY session)
        ), known AS (
            SELECT series.*, given.ex_date, given.split_factor,
                given.source = series.source AND given.currency = series.currency AS is_own,
                dense_rank() OVER (PARTITION BY series.source, series.instrument_id, series.currency ORDER BY
                    given.source <> series.source, given.currency <> series.currency, given.source, given.currency
                ) AS distance
            FROM (SELECT DISTINCT {SERIES} FROM bars) AS series
            JOIN {splits} AS given ON given.instrument_id = series.instrument_id AND given.split_factor <> 1 AND (
                given.source = series.source OR given.currency = series.currency
                OR regexp_full_match(given.instrument_id, '[A-Z]{{2}}[A-Z0-9]{{9}}[0-9]'))
        ), chosen AS (
            SELECT * FROM known WHERE NOT EXISTS (
                SELECT 1 FROM known AS nearer
                WHERE nearer.source = known.source AND nearer.instrument_id = known.instrument_id
                    AND nearer.currency = known.currency AND nearer.distance < known.distance
                    AND abs(nearer.ex_date - known.ex_date) <= {SAME_SPLIT_DAYS})
        ), counted AS (
            SELECT chosen.source, chosen.instrument_id, chosen.currency, bars.session,
                greatest(
                    least(product(chosen.split_factor ORDER BY chosen.ex_date), {_MOST_SHARES}), 1 / {_MOST_SHARES}
                ) AS split_factor
            FROM chosen ASOF JOIN bars
                ON chosen.source = bars.source AND chosen.instrument_id = bars.instrument_id
                AND chosen.currency = bars.currency AND chosen.ex_date <= bars.session
            -- What a vendor adjusted for splits that another source announces has them in it already.
            WHERE chosen.ex_date > bars.prev_session AND (is_own OR prev_basis IS NULL OR prev_basis < chosen.ex_date)
            GROUP BY ALL
        ), moves AS (
            SELECT bars.*, coalesce(split_factor, 1) AS split_factor,
                -- Differences of logarithms: the quotients of tiny and huge numbers may be 0, which has none.
                CASE WHEN prev_close > 0 AND close > 0 THEN
                    ln(close) - ln(prev_close) + ln(coalesce(split_factor, 1)) END AS move
            FROM bars LEFT JOIN counted USING ({SERIES}, session)
        ), usual AS (
            SELECT *, median(volume) OVER earlier AS usual_volume, coalesce(median(abs(move)) OVER earlier, 0) AS noise
            FROM moves WINDOW earlier AS (PARTITION BY {SERIES} ORDER BY session
                ROWS BETWEEN {USUAL_SESSIONS} PRECEDING AND 1 PRECEDING)
        ), jumps AS (
            SELECT *, ln(volume) - ln(usual_volume) AS more_volume FROM usual
            WHERE volume > 0 AND usual_volume > 0 AND abs(move) >= greatest(ln(1.2), {JUMP_TIMES} * noise)
        ), suspected AS (
            SELECT {SERIES}, session, arg_min(name, abs(move + ratio)) AS suspected_split
            FROM jumps, (VALUES {ratios}) AS ratios(name, ratio)
            WHERE abs(move + ratio) <= least({MOST_TOLERANCE}, greatest({LEAST_TOLERANCE}, {NOISE_TIMES} * noise))
                AND abs(more_volume - ratio) <= least(ln({VOLUME_TIMES}), abs(more_volume))
            GROUP BY ALL
        )
        SELECT {SERIES}, session, split_factor, suspected_split
        FROM moves LEFT JOIN suspected USING ({SERIES}, session)
        WHERE split_factor <> 1 OR suspected_split IS NOT NULL
    """)
