"""Parts of pictures for asset pages as SVG, such as of two charts beside each other.

Runs draw them. matplotlib takes 0.3 CPU seconds to import and 0.5 to draw one, a sixth of what one
corrected object costs from the file to the marts; this takes a millisecond. Pictures that are drawn rarely, or have
more in them, are in `bars.figures`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import floor, log10

_WIDTH, _HEIGHT = 810, 252
TOP, BOTTOM = 30, 210
"""Upper and lower edge of both charts, in pixels."""
LEFT, RIGHT = (60, 380), (470, 750)
"""Their sides."""


def picture(*charts: Iterable[str], tall: int = _HEIGHT) -> str:
    """The SVG of the charts' elements, `tall` pixels high."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{tall}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>',
        *(line for chart in charts for line in chart),
        "</svg>",
    ]
    return "\n".join(lines)


def frame(sides: tuple[int, int], title: str, below: str, beside: str) -> list[str]:
    """A chart's frame, its title and the names of its axes."""
    left, right = sides
    middle = (left + right) / 2
    return [
        f'<path fill="none" stroke="black" stroke-width="0.8" d="M{left} {TOP}V{BOTTOM}H{right}V{TOP}z"/>',
        text(middle, TOP - 10, title, size=12),
        text(middle, BOTTOM + 32, below),
        turned(left - 46, beside),
    ]


def scale_beside(x: int, anchor: str, away: int, most: int) -> list[str]:
    """The numbers of a vertical scale from 0 to `most`."""
    return [text(x + away, height(value, most) + 4, f"{value:,}", anchor) for value in (0, most // 2, most)]


def scale_below(sides: tuple[int, int], values: tuple[float, ...]) -> list[str]:
    """The numbers of a horizontal scale, in equal distances."""
    left, right = sides
    wide = (right - left) / (len(values) - 1)
    return [text(left + wide * place, BOTTOM + 14, f"{value:g}") for place, value in enumerate(values)]


def columns(found: Iterable[tuple[float, float, int]], most: int, colour: str) -> str:
    """Columns of (left side, width, number); those of nothing aren't drawn."""
    drawn = "".join(
        f"M{x:.1f} {BOTTOM}V{height(count, most):.1f}h{wide:.1f}V{BOTTOM}z" for x, wide, count in found if count
    )
    return f'<path fill="{colour}" d="{drawn}"/>'


def height(value: float, most: float) -> float:
    """The vertical place of a value on a scale from 0 to `most`."""
    return BOTTOM - (BOTTOM - TOP) * value / most


def rounded_up(most: int) -> int:
    """The next even number with one or two digits before its zeros, so that its half is a whole one, too."""
    unit = 10 ** max(floor(log10(max(most, 1))) - 1, 0)
    step = 2 * unit
    return max(-(-most // step) * step, 2)


def text(x: float, y: float, said: str, anchor: str = "middle", size: int = 11) -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(said)}</text>'


def turned(x: float, said: str) -> str:
    """A line of text that reads upwards."""
    middle = (TOP + BOTTOM) / 2
    return f'<text x="{x}" y="{middle}" text-anchor="middle" transform="rotate(-90 {x} {middle})">{escape(said)}</text>'
