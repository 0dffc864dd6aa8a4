"""Which end of a bar its label stands for, held against the calendar: a `defs.yaml` that takes the start for the end,
or the end for the start, moves every bar by one interval, and with it the opening and the close.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

_HALF_HOUR_S = 1800
_FINE = timedelta(minutes=15)
"""Only bars of up to that length tell whether extended hours begin and end on a half hour."""
_COVERED = 0.5
"""Sessions are judged in which bars start at that share of the regular segment's intervals: in others, the first and
the last bar say nothing.
"""


def labels_against_hours(bars: str, hours: str, interval: timedelta) -> str:
    """What the first and the last traded bar of each session say about the labels.

    Trading begins at the opening, or with extended hours before it on a half hour, and ends likewise. Labels `fit`
    where a bar begins or ends at such a time; they are `early` where it does so one interval before (starts were taken
    for ends), `late` where one after.

    Args:
        bars: relation of the table bars.
        hours: relation of (session, open_at, close_at, regular_end_at).
        interval: length of a bar.

    Returns: session, first_start_at, last_end_at, fit, early, late (how many of the two ends say so: 0 to 2).
    """
    length = f"INTERVAL '{int(interval.total_seconds())} seconds'"
    on_half = "false" if interval > _FINE else f"epoch({{}}) % {_HALF_HOUR_S} = 0"

    def begins(moment: str) -> str:
        return f"({moment} = open_at OR ({moment} < open_at AND {on_half.format(moment)}))"

    def ends(moment: str) -> str:
        return f"({moment} IN (close_at, regular_end_at) OR ({moment} > close_at AND {on_half.format(moment)}))"

    first, last = "first_start_at", "last_end_at"
    fit = f"({begins(first)} OR ({first} < open_at AND {first} + {length} > open_at))::INT + {ends(last)}::INT"
    early, late = (
        f"{begins(f'({first} {sign} {length})')}::INT + {ends(f'({last} {sign} {length})')}::INT" for sign in "+-"
    )
    return f"""
        WITH spans AS (
            SELECT session, min(start_at) AS first_start_at, max(end_at) AS last_end_at,
                count(DISTINCT start_at) FILTER (segment = 'regular') AS intervals
            FROM {bars} WHERE is_traded GROUP BY session
        )
        SELECT session, first_start_at, last_end_at, {fit} AS fit, {early} AS early, {late} AS late
        FROM spans JOIN {hours} USING (session)
        WHERE intervals * {interval.total_seconds()} >= {_COVERED} * epoch(close_at - open_at)
    """


def wrong_label(votes: Mapping[str, int]) -> tuple[str, str] | None:
    """Whether bars are `early` or `late` by one interval, and the label that would be right; None if neither shows."""
    # One coincidence is no proof.
    if max(votes["early"], votes["late"]) < 2 or max(votes["early"], votes["late"]) <= votes["fit"]:
        return None
    return ("early", "start") if votes["early"] > votes["late"] else ("late", "end")
