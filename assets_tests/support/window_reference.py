"""Sliding windows over quotes a second time, in plain Python: each quote is copied into each of its windows, sums are
fractions, and what is closed or came too late is seen by going through the commits one after the other.

Nothing of `lakehouse.domains.market` is used here. What a window is, and when it is closed, is said in the rules of the
market domain: half-open intervals of event time, a watermark, and revisions by arrival.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from typing import NamedTuple

import polars as pl

_MICROSECOND = timedelta(microseconds=1)


class Told(NamedTuple):
    """A quote, and the moment of the commit by which the lake came to know it."""

    symbol: str
    event_time: datetime
    price: float
    ingested_at: datetime


class Place(NamedTuple):
    """Which window it is."""

    resolution_minutes: int
    window_end: datetime
    symbol: str


class Measures(NamedTuple):
    """What is in a window. The mean is exact; the gain is in percent, None where the first price is 0."""

    mean_price: Fraction
    first_price: float
    last_price: float
    min_price: float
    max_price: float
    quote_count: int
    percentage_gain: float | None


class Closed(NamedTuple):
    """A window that is closed."""

    measures: Measures
    revision: int
    closed_at: datetime


@dataclass(frozen=True)
class Lengths:
    """Which windows there are: minutes of the lengths, seconds of all else."""

    minutes: tuple[int, ...] = (1, 5, 15)
    period_s: int = 10
    offset_s: int = 5
    lateness_s: float = 20

    def ends_of(self, moment: datetime, minutes: int) -> Iterator[datetime]:
        """The ends of the windows of one length that a quote of this moment is in."""
        midnight = datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
        period, offset = self.period_s * 1_000_000, self.offset_s * 1_000_000
        # The end before the moment, or at it.
        passed = ((moment - midnight) // _MICROSECOND - offset) // period * period + offset
        end = midnight + passed * _MICROSECOND + timedelta(seconds=self.period_s)
        while end - timedelta(minutes=minutes) <= moment:
            yield end
            end += timedelta(seconds=self.period_s)


DEFAULT = Lengths()


def filled_windows(quotes: Iterable[Told], lengths: Lengths = DEFAULT) -> dict[Place, list[Told]]:
    """Every window in which there is a quote, closed or not, and its quotes."""
    filled: dict[Place, list[Told]] = defaultdict(list)
    for quote in quotes:
        for minutes in lengths.minutes:
            for end in lengths.ends_of(quote.event_time, minutes):
                filled[Place(minutes, end, quote.symbol)].append(quote)
    return filled


def measures_of(quotes: Iterable[Told]) -> Measures:
    """The measures of a window's quotes, which all have different times."""
    told = sorted(quotes, key=lambda quote: quote.event_time)
    prices = [quote.price for quote in told]
    first, last = prices[0], prices[-1]
    mean = sum(map(Fraction, prices), Fraction(0)) / len(prices)
    gain = None if first == 0 else float(100 * (Fraction(last) - Fraction(first)) / Fraction(first))
    return Measures(mean, first, last, min(prices), max(prices), len(prices), gain)


def closed_windows(quotes: Iterable[Told], lengths: Lengths = DEFAULT) -> dict[Place, Closed]:
    """Every closed window in which there is a quote: once the commits have been gone through in their order."""
    commits: dict[datetime, list[datetime]] = defaultdict(list)
    told = list(quotes)
    for quote in told:
        commits[quote.ingested_at].append(quote.event_time)
    watermarks: list[tuple[datetime, datetime]] = []
    latest = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
    for moment in sorted(commits):
        latest = max(latest, *commits[moment])
        watermarks.append((moment, latest - timedelta(seconds=lengths.lateness_s)))
    found, closings = {}, {}
    for place, inside in filled_windows(told, lengths).items():
        end = place.window_end
        if end not in closings:
            closings[end] = next((moment for moment, watermark in watermarks if watermark >= end), None)
        closed_at = closings[end]
        if closed_at is not None:
            late = {quote.ingested_at for quote in inside if quote.ingested_at > closed_at}
            found[place] = Closed(measures_of(inside), 1 + len(late), closed_at)
    return found


def assert_same(rows: pl.DataFrame, expected: Mapping[Place, Measures | Closed]) -> None:
    """Whether rows of windows are the expected ones: each once, and none else.

    Prices, counts, revisions and moments have to be equal. Means and gains may differ by what rounding a few times
    makes of them.
    """
    places = [Place(*place) for place in rows.select(Place._fields).iter_rows()]
    assert len(set(places)) == len(places), "a window is there twice"
    assert set(places) == set(expected), (
        f"too few: {sorted(set(expected) - set(places))[:5]}, too many: {sorted(set(places) - set(expected))[:5]}"
    )
    for place, row in zip(places, rows.iter_rows(named=True), strict=True):
        window = expected[place]
        if isinstance(window, Closed):
            assert (row["revision"], row["closed_at"]) == (window.revision, window.closed_at), place
            assert row["day"] == place.window_end.date(), place
            window = window.measures
        exact = ("first_price", "last_price", "min_price", "max_price", "quote_count")
        assert {name: row[name] for name in exact} == {name: getattr(window, name) for name in exact}, place
        # A price is kept in units of 1e-12, and is itself rounded in its 16th digit.
        assert math.isclose(row["mean_price"], window.mean_price, rel_tol=1e-15 * 4, abs_tol=1e-12), place
        gain = row["percentage_gain"]
        assert (gain is None) == (window.percentage_gain is None), place
        if gain is not None and window.percentage_gain is not None:
            assert math.isclose(gain, window.percentage_gain, rel_tol=1e-12, abs_tol=1e-12), place
