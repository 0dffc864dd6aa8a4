"""Tasks that put series into charts."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lakehouse.analyses.functions import checks
from lakehouse.analyses.registry import Tasks
from lakehouse.analyses.values import Chart, Line

TASKS = Tasks()


@TASKS.task("chart.lines", checks={"title": checks.text, "labels": checks.texts, "below": checks.texts})
def lines(*series: pl.DataFrame, title: str, labels: Sequence[str] = (), below: Sequence[str] = ()) -> Chart:
    """A chart of series over their dates; those whose label is among `below` in a panel of their own."""
    if not series:
        raise ValueError("there is no series to draw; name some as input keys")
    if len(labels) not in (0, len(series)):
        raise ValueError(f"there are {len(series)} series and {len(labels)} labels; give each one")
    names = list(labels) or [f"series {number}" for number in range(1, len(series) + 1)]
    found = (Line(name, each, int(name in below)) for name, each in zip(names, series, strict=True))
    return Chart(title, tuple(found))
