"""Draws the time that steps take as SVG: a box for each, on a scale of logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from lakehouse.components.svg import picture, text

PERCENT = (5, 25, 50, 75, 95)
"""The percentiles that a box shows: whiskers from the first to the last, a box between the two within, and a line."""
_LEFT, _RIGHT, _TOP = 250, 780, 34
_LINE = 24
"""Height of a step's line, in pixels."""
_FEW_POWERS = 2
"""Powers of ten up to which the scale has twos and fives."""


def steps_svg(title: str, steps: Sequence[tuple[str, int, Sequence[float]]]) -> str:
    """The picture.

    Args:
        steps: name, how often it was taken, and the percentiles `PERCENT` of its seconds; at least one step. What took
            no time is drawn where the scale begins.
    """
    shown = [seconds for *_, of_step in steps for seconds in of_step if seconds > 0] or [1]
    least, most = floor(log10(min(shown))), ceil(log10(max(shown)))
    most = max(most, least + 1)

    def place(seconds: float) -> float:
        power = max(log10(seconds), least) if seconds > 0 else least
        return _LEFT + (_RIGHT - _LEFT) * (power - least) / (most - least)

    bottom = _TOP + _LINE * len(steps)
    leading = (1, 2, 5) if most - least <= _FEW_POWERS else (1,)
    ticks = [first * 10.0**power for power in range(least, most) for first in leading] + [10.0**most]
    drawn = [
        text((_LEFT + _RIGHT) / 2, _TOP - 12, title, size=12),
        text((_LEFT + _RIGHT) / 2, bottom + 32, "seconds (box: the middle half; whiskers: 5 to 95 %)"),
        *(f'<path stroke="#e8eaf0" d="M{place(tick):.1f} {_TOP}V{bottom}"/>' for tick in ticks),
        *(text(place(tick), bottom + 14, f"{tick:g}") for tick in ticks),
        f'<path fill="none" stroke="black" stroke-width="0.8" d="M{_LEFT} {_TOP}V{bottom}H{_RIGHT}V{_TOP}z"/>',
    ]
    for number, (name, count, of_step) in enumerate(steps):
        y = _TOP + _LINE * (number + 0.5)
        first, lower, middle, upper, last = map(place, of_step)
        drawn += [
            text(_LEFT - 6, y + 4, f"{name} ({count:,})", "end"),
            f'<path stroke="black" d="M{first:.1f} {y - 4}v8M{first:.1f} {y}H{last:.1f}M{last:.1f} {y - 4}v8"/>',
            f'<path fill="#c9cef0" stroke="black" d="M{lower:.1f} {y - 7}H{upper:.1f}v14H{lower:.1f}z"/>',
            f'<path stroke="#e06c00" stroke-width="2" d="M{middle:.1f} {y - 7}v14"/>',
        ]
    return picture(drawn, tall=bottom + 42)
