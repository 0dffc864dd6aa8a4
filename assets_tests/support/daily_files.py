"""A folder of daily histories in the format of WIKI Prices: `<ticker>.csv.gz`, each with the whole history of a ticker,
prices as traded beside the ones that the vendor adjusts.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from random import Random

HEADER = "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume"


@dataclass(frozen=True)
class DailyPrice:
    """A line of a file."""

    day: date
    open: float
    high: float
    low: float
    close: float
    volume: int
    dividend: float = 0.0
    split: float = 1.0


def history(days: Sequence[date], seed: int, **actions: dict[date, float]) -> list[DailyPrice]:
    """A random walk over some days, in cents.

    Args:
        actions: `dividends` and `splits` by their ex-dates; a split divides the price.
    """
    random, price, found = Random(seed), 80.0, []
    dividends, splits = actions.get("dividends", {}), actions.get("splits", {})
    for day in days:
        split = splits.get(day, 1.0)
        opened = price / split
        closed = opened * (1 + random.uniform(-0.02, 0.02))
        high, low = max(opened, closed) + random.random(), min(opened, closed) - random.random()
        prices = (round(value, 2) for value in (opened, high, low, closed))
        found.append(DailyPrice(day, *prices, random.randrange(10_000, 90_000), dividends.get(day, 0.0), split))
        price = closed
    return found


def adjusted_closes(prices: Sequence[DailyPrice]) -> list[float]:
    """The closes as the vendor adjusts them: a dividend D of an ex-date with the close C counts as C / (C + D)."""
    factor, found = 1.0, []
    for price in reversed(prices):
        found.append(price.close * factor)
        factor *= price.close / (price.close + price.dividend) / price.split
    return found[::-1]


def corrected(prices: Sequence[DailyPrice], day: date, **values: float) -> list[DailyPrice]:
    """The history with other values on a day."""
    return [replace(price, **values) if price.day == day else price for price in prices]  # type: ignore[arg-type]


def write_history(folder: Path, ticker: str, prices: Sequence[DailyPrice], published_at: datetime) -> Path:
    """Writes a ticker's file as of a moment. The columns of adjusted prices that nobody reads stay empty."""
    path = folder / f"{ticker}.csv.gz"
    lines = [HEADER]
    for price, adjusted in zip(prices, adjusted_closes(prices), strict=True):
        traded = f"{price.open},{price.high},{price.low},{price.close},{float(price.volume)}"
        lines.append(f"{price.day},{traded},{price.dividend},{price.split},,,,{adjusted!r},")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    os.utime(path, (published_at.timestamp(),) * 2)
    return path
