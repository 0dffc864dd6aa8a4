"""The values that tasks exchange: their kinds, fingerprints and figures.

A series is a frame with the columns `date` and `value`; a chart is the data that it shows, and is drawn by `drawing`.
Fingerprints are hashes of the data alone, so that they are equal on every installation.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from lakehouse.analyses.canonical import canonical_json

if TYPE_CHECKING:
    import polars as pl

SERIES_COLUMNS = ["date", "value"]


@dataclass(frozen=True)
class Line:
    """A line of a chart: its label, its points (a series), and the panel that it is in, from the top."""

    label: str
    points: pl.DataFrame
    panel: int = 0


@dataclass(frozen=True)
class Chart:
    """Lines over dates."""

    title: str
    lines: tuple[Line, ...] = field(default=())


def kind_of(value: Any) -> str:
    """What a value is: series, dates, column, frame, chart, or json for the rest."""
    import polars as pl

    if isinstance(value, pl.DataFrame):
        return "series" if value.columns == SERIES_COLUMNS else "frame"
    if isinstance(value, pl.Series):
        return "dates" if value.dtype == pl.Date else "column"
    return "chart" if isinstance(value, Chart) else "json"


def fingerprint(value: Any) -> str:
    """The sha256 of a value's data."""
    digest = hashlib.sha256()
    _add(value, digest.update)
    return digest.hexdigest()


def column_fingerprints(value: Any) -> dict[str, str]:
    """The fingerprint of each column of a frame; empty for other values."""
    import polars as pl

    return {name: fingerprint(value[name]) for name in value.columns} if isinstance(value, pl.DataFrame) else {}


def _add(value: Any, add: Any) -> None:
    import polars as pl

    if isinstance(value, pl.DataFrame):
        add(b"frame")
        for name in value.columns:
            add(canonical_json(name).encode())
            _add(value[name], add)
    elif isinstance(value, pl.Series):
        add(f"column {value.dtype} {value.len()} ".encode())
        add(value.is_null().to_numpy().tobytes())
        if value.dtype.is_numeric() and not value.dtype.is_decimal():
            add(value.fill_null(0).to_numpy().tobytes())
        elif value.dtype == pl.Boolean:
            add(value.fill_null(False).to_numpy().tobytes())
        elif value.dtype.is_temporal():
            add(value.to_physical().fill_null(0).to_numpy().tobytes())
        else:
            add(canonical_json([None if each is None else str(each) for each in value.to_list()]).encode())
    elif isinstance(value, Chart):
        add(canonical_json(["chart", value.title, [[line.label, line.panel] for line in value.lines]]).encode())
        for line in value.lines:
            _add(line.points, add)
    else:
        add(b"json" + canonical_json(plain(value)).encode())


def plain(value: Any) -> Any:
    """A value in JSON's types; floats that JSON lacks, and other objects, as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if isinstance(value, date) else repr(value)


def figures(value: Any) -> dict[str, Any]:
    """What a person wants to see of a value first: how many rows, from when to when, the last values, the extremes."""
    kind = kind_of(value)
    if kind == "series":
        return _series_figures(value)
    if kind == "dates":
        return {"rows": value.len(), "first": _text(value.min()), "last": _text(value.max())}
    if kind == "column":
        return {"rows": value.len(), "nulls": value.null_count()}
    if kind == "frame":
        return {"rows": value.height, "columns": value.width}
    if kind == "chart":
        return {"lines": len(value.lines), "points": sum(line.points.height for line in value.lines)}
    content = plain(value)
    if isinstance(content, int | float):
        return {"value": content}
    text = json.dumps(content, ensure_ascii=False)
    return {"value": text if len(text) <= 200 else f"{text[:197]}..."}


def _series_figures(series: pl.DataFrame) -> dict[str, Any]:
    import polars as pl

    found: dict[str, Any] = {"rows": series.height}
    valid = series.drop_nulls("value")
    if valid.is_empty():
        return found | {"values": 0}
    found |= {"values": valid.height, "first": _text(valid["date"][0]), "last": _text(valid["date"][-1])}
    if not valid["value"].dtype.is_numeric():
        return found | {"last_value": _text(valid["value"][-1])}
    found |= {"last_value": valid["value"][-1], "sum": valid["value"].cast(pl.Float64).sum()}
    return found | {"min": valid["value"].min(), "max": valid["value"].max()}


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
