"""Draws a session as SVG: the distribution of its changes, and its traded bars and instruments per hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from lakehouse.components.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    columns,
    frame,
    height,
    picture,
    rounded_up,
    scale_below,
    scale_beside,
    text,
    turned,
)


def session_svg(
    session: date, changes: Sequence[int], clip: float, hours: Sequence[tuple[int, int, int]], zone: str
) -> str:
    """The picture.

    Args:
        changes: the instruments in equal bins of change_pct, from -`clip` to `clip` percent.
        hours: (hour, traded bars, instruments), ascending, in the time zone `zone`.
    """
    return picture(_histogram(session, changes, clip), _hours(session, hours, zone))


def _histogram(session: date, changes: Sequence[int], clip: float) -> list[str]:
    left, right = LEFT
    most, wide = rounded_up(max(changes, default=0)), (right - left) / max(len(changes), 1)
    return [
        *frame(
            LEFT, f"{session}: change of {sum(changes):,} instruments", "change_pct (percent, clipped)", "instruments"
        ),
        *scale_beside(left, "end", -4, most),
        columns(((left + wide * place, wide, count) for place, count in enumerate(changes)), most, "#4f43dd"),
        *scale_below(LEFT, (-clip, -clip / 2, 0, clip / 2, clip)),
    ]


def _hours(session: date, hours: Sequence[tuple[int, int, int]], zone: str) -> list[str]:
    left, right = RIGHT
    most_bars = rounded_up(max((bars for _, bars, _ in hours), default=0))
    most_instruments = rounded_up(max((count for *_, count in hours), default=0))
    wide = (right - left) / max(len(hours), 1)
    title = f"{session}: traded bars and instruments per hour"
    places = [(left + wide * (place + 0.5), hour) for place, hour in enumerate(hours)]
    points = [(x, height(count, most_instruments)) for x, (*_, count) in places]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        *frame(RIGHT, title, f"hour, {zone}", "bars"),
        *scale_beside(left, "end", -4, most_bars),
        *scale_beside(right, "start", 4, most_instruments),
        turned(right + 50, "instruments"),
        columns([(x - 0.4 * wide, 0.8 * wide, bars) for x, (_, bars, _) in places], most_bars, "#9aa5ce"),
        *(text(x, BOTTOM + 14, f"{hour:02}") for x, (hour, *_) in places),
        f'<polyline fill="none" stroke="#e06c00" stroke-width="1.5" points="{line}"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#e06c00"/>' for x, y in points),
    ]
