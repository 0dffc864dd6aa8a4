"""Draws how daily bars deviate from another series as SVG: their prices, and their volume as a share of the other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log10

from lakehouse.components.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    columns,
    frame,
    height,
    picture,
    rounded_up,
    scale_below,
    scale_beside,
    text,
)

_STYLES = (("#4f43dd", ""), ("#e06c00", "6 3"), ("#3fb68b", "6 2 1 2"), ("#d1344b", "1 2"))
"""Colours and dashes of the lines of prices."""
_UNDER_ONE = log10(2)
"""How much of the logarithmic scale, in powers of ten, lies below one session."""


def deviations_svg(
    sessions: int, prices: Mapping[str, Sequence[int]], clip: float, shares: Sequence[int], most_share: float
) -> str:
    """The picture.

    Args:
        sessions: how many were compared.
        prices: field -> the sessions in equal bins of its deviation, from -`clip` to `clip` basis points; at most four.
        shares: the sessions in equal bins of the volume's share, from 0 to `most_share`.
    """
    return picture(_prices(sessions, prices, clip), _shares(shares, most_share))


def _prices(sessions: int, prices: Mapping[str, Sequence[int]], clip: float) -> list[str]:
    left, right = LEFT
    powers = max(ceil(log10(max((max(counts, default=0) for counts in prices.values()), default=0) or 1)), 1)
    drawn = frame(
        LEFT,
        f"{sessions:,} sessions: prices against the other series",
        "deviation (basis points, clipped)",
        "sessions",
    )
    drawn += [text(left - 4, _height_of(10**power, powers) + 4, f"{10**power:,}", "end") for power in range(powers + 1)]
    for number, ((field, counts), (colour, dashes)) in enumerate(zip(prices.items(), _STYLES, strict=False)):
        wide = (right - left) / max(len(counts), 1)
        steps = "".join(
            f"V{_height_of(count, powers):.1f}H{left + wide * (place + 1):.1f}" for place, count in enumerate(counts)
        )
        style = f'fill="none" stroke="{colour}" stroke-dasharray="{dashes}"'
        y = TOP + 14 + 14 * number
        drawn += [
            f'<path {style} d="M{left} {BOTTOM}{steps}V{BOTTOM}"/>',
            f'<path {style} d="M{right - 62} {y - 4}h22"/>',
            text(right - 36, y, field, "start"),
        ]
    return [*drawn, *scale_below(LEFT, (-clip, -clip / 2, 0, clip / 2, clip))]


def _height_of(count: int, powers: int) -> float:
    """The vertical place of a number of sessions on a logarithmic scale to ten to the `powers`."""
    return height(log10(count) + _UNDER_ONE if count else 0, powers + _UNDER_ONE)


def _shares(shares: Sequence[int], most_share: float) -> list[str]:
    left, right = RIGHT
    most, wide = rounded_up(max(shares, default=0)), (right - left) / max(len(shares), 1)
    return [
        *frame(RIGHT, "volume as a share of the other's", "ratio (clipped)", "sessions"),
        *scale_beside(left, "end", -4, most),
        columns(((left + wide * place, wide, count) for place, count in enumerate(shares)), most, "#9aa5ce"),
        *scale_below(RIGHT, (0, most_share / 3, 2 * most_share / 3, most_share)),
    ]
