"""Small pictures for pages, as SVG: stacked bars, lines and sparklines. Their colours are classes of the page's style
sheet, so that they follow its light and dark theme, and they need no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10

from markupsafe import Markup

from lakehouse.printable import printable

_WIDE, _NARROW = 1000, 380
_LEFT, _BELOW, _ABOVE = 56, 24, 10
_DIGIT = 6.7
"""Pixels that a character of a label takes."""
_KEY = Markup(
    '<li><svg width="10" height="10" aria-hidden="true"><rect class="s{}" width="10" height="10" rx="2"/></svg>{}</li>'
)
_BAR = Markup('<rect class="s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1"><title>{}</title></rect>')
_TICK = Markup(
    '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}" class="end">{}</text>'
)


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], what: str, height: int = 230) -> Markup:
    """Bars over labels, stacked by series: name -> a value for each label. Drawn once for a wide and once for a narrow
    page, of which the style sheet shows one.
    """
    drawn = (
        Markup('<div class="{}">{}</div>').format(kind, _bars(labels, series, what, width, height))
        for kind, width in (("only-wide", _WIDE), ("only-narrow", _NARROW))
    )
    return Markup('<div class="picture">{}{}</div>').format(Markup("").join(drawn), legend(list(series)))


def legend(names: Sequence[str]) -> Markup:
    """The names of series with their colours; nothing for one."""
    if len(names) < 2:
        return Markup("")
    entries = (_KEY.format(number % 8, printable(name)) for number, name in enumerate(names))
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


def _bars(
    labels: Sequence[str], series: Mapping[str, Sequence[float]], what: str, width: int, height: int
) -> Markup:  # fmt: skip
    totals = [sum(values[place] for values in series.values()) for place in range(len(labels))]
    ticks = _ticks(max(totals, default=0))
    top = ticks[-1] or 1
    room, base = width - _LEFT - 8, height - _BELOW
    step = room / max(len(labels), 1)
    bar = min(step * 0.78, 46)
    parts = [_grid(ticks, top, width, base)]
    for place, label in enumerate(labels):
        x, y = _LEFT + step * (place + 0.5) - bar / 2, float(base)
        parts.append(Markup("<g>"))
        for number, (name, values) in enumerate(series.items()):
            if values[place]:
                tall = values[place] / top * (base - _ABOVE)
                y -= tall
                hint = f"{label}: {values[place]:,.0f} {name}" if len(series) > 1 else f"{label}: {values[place]:,.0f}"
                parts.append(_BAR.format(number % 8, x, y, bar, max(tall, 0.7), printable(hint)))
        parts.append(Markup("</g>"))
    parts.append(_labels([(_LEFT + step * (place + 0.5), label) for place, label in enumerate(labels)], height, width))
    return _svg(width, height, what, parts)


def line(labels: Sequence[str], values: Sequence[float], what: str, height: int = 230) -> Markup:
    """A line over labels from zero, filled below."""
    drawn = (
        Markup('<div class="{}">{}</div>').format(kind, _line(labels, values, what, width, height))
        for kind, width in (("only-wide", _WIDE), ("only-narrow", _NARROW))
    )
    return Markup('<div class="picture">{}</div>').format(Markup("").join(drawn))


def _line(labels: Sequence[str], values: Sequence[float], what: str, width: int, height: int) -> Markup:
    ticks = _ticks(max(values, default=0))
    top, room, base = ticks[-1] or 1, width - _LEFT - 8, height - _BELOW
    step = room / max(len(labels) - 1, 1)
    points = [
        (_LEFT + step * place, base - max(value, 0) / top * (base - _ABOVE)) for place, value in enumerate(values)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [
        _grid(ticks, top, width, base),
        Markup('<polygon class="area" points="{:.1f},{} {} {:.1f},{}"/>').format(
            points[0][0], base, path, points[-1][0], base
        ),
        Markup('<polyline class="line" points="{}"/>').format(path),
        _labels(
            [(x, label) for (x, _), label in zip(points, labels, strict=True)], height, width
        ),
    ]  # fmt: skip
    return _svg(width, height, what, parts)


def sparkline(values: Sequence[float], what: str) -> Markup:
    """A line of a few values from their lowest to their highest, without an axis."""
    if len(values) < 2:
        return Markup("")
    least, most = min(values), max(values)
    span = (most - least) or 1
    points = " ".join(
        f"{2 + 96 * place / (len(values) - 1):.1f},{22 - 20 * (value - least) / span:.1f}"
        for place, value in enumerate(values)
    )
    tone = "up" if values[-1] >= values[0] else "down"
    return Markup(
        '<svg class="spark {}" viewBox="0 0 100 24" width="100" height="24" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg>'
    ).format(tone, printable(what), points)


def _svg(width: int, height: int, what: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, printable(what), Markup("").join(parts)
    )


def _grid(ticks: Sequence[float], top: float, width: int, base: float) -> Markup:
    lines = []
    for tick in ticks:
        y = base - tick / top * (base - _ABOVE)
        lines.append(_TICK.format(_LEFT, width - 8, y, y, _LEFT - 8, y + 4, short(tick)))
    return Markup("").join(lines)


def _labels(found: Sequence[tuple[float, str]], height: int, width: int) -> Markup:
    """The labels from left to right, each where it has room."""
    shown, free = [], 0.0
    wide = max((len(label) for _, label in found), default=0) * _DIGIT
    each = max(1, ceil(len(found) * (wide + 14) / (width - _LEFT)))
    for x, label in found[::each]:
        half = len(label) * _DIGIT / 2
        at = min(max(x, half), width - half)
        if at - half < free:
            continue
        free = at + half + 8
        shown.append(
            Markup('<text x="{:.1f}" y="{}" class="middle">{}</text>').format(at, height - 6, printable(label))
        )
    return Markup("").join(shown)


def _ticks(most: float) -> list[float]:
    """Round values from zero to at least the highest."""
    if most <= 0:
        return [0.0]
    rough = most / 4
    power = 10.0 ** floor(log10(rough))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
    if most >= 1 and all(float(value).is_integer() for value in (most,)):
        step = max(step, 1.0)
    return [step * number for number in range(ceil(most / step - 1e-9) + 1)]


def short(value: float) -> str:
    """A number with a unit of thousands, such as 1.2M."""
    for size, unit in ((1e12, "tn"), (1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
