"""A lake with end of day prices of the source `wiki`: real ones, or invented ones in the same form."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.ingest.load import load

HEADER = "Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Open,Adj. High,Adj. Low,Adj. Close,Adj. Volume"


def write_invented(folder: Path, ticker: str, days: int = 320, seed: int = 1) -> list[tuple[date, float]]:
    """Writes a ticker's invented history from 2007 on; returns its dates and closes."""
    draw = random.Random(f"{ticker} {seed}")
    calendar = source_named("wiki").calendar
    sessions = calendar.between(date(2007, 1, 1), date(2007, 1, 1) + timedelta(days=2 * days))[:days]
    close, lines, found = 40.0, [HEADER], []
    for session in sessions:
        before, close = close, round(close * (1 + draw.gauss(0, 0.02)), 2)
        high, low = round(max(before, close) * 1.01, 2), round(min(before, close) * 0.99, 2)
        volume = draw.randint(1_000, 9_000)
        prices = f"{before},{high},{low},{close}"
        lines.append(f"{session},{prices},{volume}.0,0.0,1.0,{prices},{volume}.0")
        found.append((session, close))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{ticker.lower()}.csv").write_text("\n".join(lines) + "\n")
    return found


def load_prices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Loads the histories in a folder into `wiki.official_daily`."""
    monkeypatch.setenv("LAKEHOUSE_WIKI_URL", str(folder))
    lake, source = Lake.present(), source_named("wiki")
    assert source.official_daily is not None
    load(lake, source.official_daily, [])
    for table in source.tables:
        table.derive(lake, source, [])
    return lake
