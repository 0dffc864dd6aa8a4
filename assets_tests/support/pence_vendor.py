"""Files of an invented vendor of London shares: semicolons, decimal commas, prices in pence, five-minute bars whose
times are their ends on New York's clock. What they amount to is computed here from the bars alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

NEW_YORK, LONDON = ZoneInfo("America/New_York"), ZoneInfo("Europe/London")
DAYS = (date(2024, 3, 7), date(2024, 3, 8), date(2024, 3, 11), date(2024, 3, 12))
"""Clocks go forward in New York on March 10th, and in London three weeks later."""
OPENING_PRICES = {"VOD": 66.5, "BARC": 170.25, "HSBA": 598.1}
HEADER = "Date;Time;Open;High;Low;Close;Volume"

Daily = dict[tuple[str, date], tuple[float, float, float, float, float]]


def write_files(folder: Path) -> Daily:
    """Writes a file per symbol and day. Returns (symbol, session) -> open, high, low, close in pounds, and volume."""
    amounts: Daily = {}
    for symbol, price in OPENING_PRICES.items():
        chance = random.Random(symbol)
        for day in DAYS:
            bars = list(_bars(price, chance))
            lines = [HEADER]
            for end, bar in zip(_ends(day), bars, strict=True):
                local = end.astimezone(NEW_YORK)
                numbers = ";".join(f"{pence / 100:.2f}".replace(".", ",") for pence in bar[:4])
                lines.append(f"{local:%d.%m.%Y};{local:%H:%M};{numbers};{bar[4]}")
            path = folder / symbol / f"{symbol}_{day:%Y%m%d}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
            amounts[symbol, day] = (
                bars[0][0] / 10_000,
                max(bar[1] for bar in bars) / 10_000,
                min(bar[2] for bar in bars) / 10_000,
                bars[-1][3] / 10_000,
                float(sum(bar[4] for bar in bars)),
            )
    return amounts


def _ends(day: date) -> Iterator[datetime]:
    """From 08:05 to 16:30 in London."""
    first = datetime.combine(day, time(8, 5), LONDON)
    return (first + number * timedelta(minutes=5) for number in range(102))


def _bars(price: float, chance: random.Random) -> Iterator[tuple[int, int, int, int, int]]:
    """Open, high, low and close in hundredths of a penny, and the volume."""
    last = round(price * 100)
    for _ in range(102):
        first, last = last, round(last * (1 + chance.gauss(0, 0.001)))
        yield first, max(first, last) + 3, min(first, last) - 2, last, chance.randint(100, 90_000)
