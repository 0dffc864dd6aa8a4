"""Reads bars of any interval and daily bars by symbols and sessions, as traded or on one adjustment basis."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING, Literal

from lakehouse.errors import TableMissing, did_you_mean
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, predicate

if TYPE_CHECKING:
    import duckdb

Adjustment = Literal["none", "splits", "splits_and_dividends"]
Convention = Literal["crsp", "reinvest"]


def daily_bars(
    lake: Lake,
    source: str,
    *,
    symbols: Collection[str] | str | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    adjusted: Adjustment = "none",
    convention: Convention = "crsp",
    as_of: date | str | None = None,
) -> duckdb.DuckDBPyRelation:
    """A source's daily bars with prices and volumes as traded, or adjusted for splits, or for dividends too.

    Args:
        symbols: of these only; of all by default.
        start: the first session wanted.
        end: the last session wanted.
        convention: how a dividend D scales the prices before its ex-date: `crsp` by 1 - D / the close before,
            `reinvest` by C / (C + D) with the close of the ex-date.
        as_of: the day whose basis is wanted: only actions with an ex-date up to it count. Today (or the lake's
            `as_of`) by default.

    Returns: the columns of daily_bars (without adjusted_as_of), prev_close and change_pct on the same basis, and
        adjustment, prices_as_of, dividend_convention.

    Raises:
        TableMissing: the lake has no such source, or it has no daily bars.
    """
    _require_bars(lake, source)
    day = f", as_of := {literal(as_of)}::DATE" if as_of else ""
    choice = f"adjusted := {literal(adjusted)}, convention := {literal(convention)}{day}"
    found = lake.sql(f'FROM "{source}".adjusted_daily_bars({choice}){_where(symbols, start, end)}')
    assert found is not None
    return found


def bars(
    lake: Lake,
    source: str,
    interval: str,
    *,
    symbols: Collection[str] | str | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
) -> duckdb.DuckDBPyRelation:
    """A source's traded bars of a longer interval than the stored ones, within sessions and segments (see `longer`).

    Args:
        interval: a number and s, min, h or d, up to 1d; a multiple of the stored interval.
        symbols: of these only; of all by default.
        start: the first session wanted.
        end: the last session wanted.

    Raises:
        TableMissing: the lake has no such source, or it has no bars.
        duckdb.InvalidInputException: the interval can't be made of the stored bars; its message says why.
    """
    _require_bars(lake, source)
    found = lake.sql(f'FROM "{source}".bars({literal(interval)}){_where(symbols, start, end)}')
    assert found is not None
    return found


def _where(symbols: Collection[str] | str | None, start: date | str | None, end: date | str | None) -> str:
    wanted = [f"session >= {literal(start)}::DATE"] if start else []
    wanted += [f"session <= {literal(end)}::DATE"] if end else []
    if symbols is not None:
        wanted.append(predicate({"symbol": [symbols] if isinstance(symbols, str) else list(symbols)}))
    return f" WHERE {' AND '.join(wanted)}" if wanted else ""


def _require_bars(lake: Lake, source: str) -> None:
    """Makes sure that the lake has a source, and that it has bars if a `defs.yaml` describes it.

    Raises:
        TableMissing: there is no such source, or it has a daily series alone.
    """
    known = lake.sources("market")
    if source not in known:
        raise TableMissing(
            f"the lake at {lake.uri} has no source {source!r}; it has {', '.join(known) or 'none'}"
            f"{did_you_mean(source, known)}"
        )
    _, tables = lake.registry.sources.get(source, ("", {}))
    if tables and "daily_bars" not in tables:
        raise TableMissing(
            f"{source} has no daily bars, only {', '.join(sorted(tables))}",
            f"Read its daily series by SQL, such as FROM {source}.adjusted_official_daily()",
        )
