"""Draws a session as SVG: the distribution of its changes, and its traded bars and instruments per hour.

Every run with new daily bars draws one. matplotlib takes 0.3 CPU seconds to import and 0.5 to draw it, a sixth of what
one corrected object costs from the file to the marts; this takes a millisecond. Pictures that are drawn rarely, or have
more in them, are in `figures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from math import floor, log10

_WIDTH, _HEIGHT = 810, 252
_TOP, _BOTTOM = 30, 210
"""Upper and lower edge of both charts, in pixels."""
_LEFT, _RIGHT = (60, 380), (470, 750)
"""Their sides."""
_TICKS = 5


def session_svg(
    session: date, changes: Sequence[int], clip: float, hours: Sequence[tuple[int, int, int]], zone: str
) -> str:
    """The picture.

    Args:
        changes: the instruments in equal bins of change_pct, from -`clip` to `clip` percent.
        hours: (hour, traded bars, instruments), ascending, in the time zone `zone`.
    """
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>',
        *_histogram(session, changes, clip),
        *_hours(session, hours, zone),
        "</svg>",
    ]
    return "\n".join(lines)


def _histogram(session: date, changes: Sequence[int], clip: float) -> list[str]:
    left, right = _LEFT
    most, wide = _rounded_up(max(changes, default=0)), (right - left) / max(len(changes), 1)
    lines = [
        *_frame(
            _LEFT, f"{session}: change of {sum(changes):,} instruments", "change_pct (percent, clipped)", "instruments"
        ),
        *_scale(left, "end", -4, most),
        _bars(((left + wide * place, wide, count) for place, count in enumerate(changes)), most, "#4f43dd"),
    ]
    for tick in range(_TICKS):
        place = tick / (_TICKS - 1)
        lines.append(_text(left + (right - left) * place, _BOTTOM + 14, f"{clip * (2 * place - 1):g}"))
    return lines


def _hours(session: date, hours: Sequence[tuple[int, int, int]], zone: str) -> list[str]:
    left, right = _RIGHT
    most_bars = _rounded_up(max((bars for _, bars, _ in hours), default=0))
    most_instruments = _rounded_up(max((count for *_, count in hours), default=0))
    wide = (right - left) / max(len(hours), 1)
    title = f"{session}: traded bars and instruments per hour"
    columns = [(left + wide * (place + 0.5), hour) for place, hour in enumerate(hours)]
    points = [(x, _y(count, most_instruments)) for x, (*_, count) in columns]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [
        *_frame(_RIGHT, title, f"hour, {zone}", "bars"),
        *_scale(left, "end", -4, most_bars),
        *_scale(right, "start", 4, most_instruments),
        _turned(right + 50, "instruments"),
        _bars([(x - 0.4 * wide, 0.8 * wide, bars) for x, (_, bars, _) in columns], most_bars, "#9aa5ce"),
        *(_text(x, _BOTTOM + 14, f"{hour:02}") for x, (hour, *_) in columns),
        f'<polyline fill="none" stroke="#e06c00" stroke-width="1.5" points="{line}"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#e06c00"/>' for x, y in points),
    ]


def _frame(sides: tuple[int, int], title: str, below: str, beside: str) -> list[str]:
    left, right = sides
    middle = (left + right) / 2
    return [
        f'<path fill="none" stroke="black" stroke-width="0.8" d="M{left} {_TOP}V{_BOTTOM}H{right}V{_TOP}z"/>',
        _text(middle, _TOP - 10, title, size=12),
        _text(middle, _BOTTOM + 32, below),
        _turned(left - 46, beside),
    ]


def _scale(x: int, anchor: str, away: int, most: int) -> list[str]:
    return [_text(x + away, _y(value, most) + 4, f"{value:,}", anchor) for value in (0, most // 2, most)]


def _bars(bars: Iterable[tuple[float, float, int]], most: int, colour: str) -> str:
    drawn = "".join(
        f"M{x:.1f} {_BOTTOM}V{_y(count, most):.1f}h{wide:.1f}V{_BOTTOM}z" for x, wide, count in bars if count
    )
    return f'<path fill="{colour}" d="{drawn}"/>'


def _y(value: float, most: int) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * value / most


def _rounded_up(most: int) -> int:
    """The next even number with one or two digits before its zeros, so that its half is a whole one, too."""
    unit = 10 ** max(floor(log10(max(most, 1))) - 1, 0)
    step = 2 * unit
    return max(-(-most // step) * step, 2)


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _turned(x: float, text: str) -> str:
    middle = (_TOP + _BOTTOM) / 2
    return f'<text x="{x}" y="{middle}" text-anchor="middle" transform="rotate(-90 {x} {middle})">{escape(text)}</text>'
