"""The picture of a day's gains on the page of a feed's windows, line by line against the day's quotes."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pytest
from matplotlib.dates import num2date
from matplotlib.figure import Figure

from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.window_reference import closed_windows
from lakehouse.api import Lake
from lakehouse.components.bars import figures as module
from lakehouse.components.bars.figures import gains_picture

START = datetime(2026, 3, 3, 14, 30, tzinfo=UTC)
DAY = START.date()


def drawn(feed: FeedLake, day: date, monkeypatch: pytest.MonkeyPatch) -> tuple[Figure, str]:
    """The figure of a day, and the Markdown that it became."""
    figures: list[Figure] = []
    made = module.image_markdown

    def seen(figure: Figure, description: str) -> str:
        figures.append(figure)
        return made(figure, description)

    monkeypatch.setattr(module, "image_markdown", seen)
    metadata = gains_picture(feed.lake, feed.described, day)
    return figures[0], metadata["gains_of_the_day"].value


def fed(folder: Path, symbols: Sequence[str], rounds: int) -> FeedLake:
    feed = FeedLake(lake=Lake(str(folder / "lake")))
    random = Random(1)
    quotes = [
        said(symbol, START + timedelta(seconds=10 * number + random.randrange(4)), round(random.uniform(90, 110), 2))
        for number in range(rounds)
        for symbol in symbols
    ]
    feed.tell(quotes)
    return feed


def expected_gains(feed: FeedLake) -> dict[str, dict[datetime, float]]:
    """Symbol -> end of a window of a minute -> gain since the first price of the first of them."""
    prices: dict[str, dict[datetime, tuple[float, float]]] = defaultdict(dict)
    for place, window in closed_windows(feed.told()).items():
        if place.resolution_minutes == 1:
            prices[place.symbol][place.window_end] = (window.measures.first_price, window.measures.last_price)
    gains = {}
    for symbol, windows in prices.items():
        opening = windows[min(windows)][0]
        gains[symbol] = {end: 100 * (last - opening) / opening for end, (_, last) in windows.items()}
    return gains


def test_each_line_is_a_symbols_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = fed(tmp_path, ["A", "B", "C$D$"], rounds=60)
    figure, text = drawn(feed, DAY, monkeypatch)
    image = re.fullmatch(r"!\[(.*)\]\(data:image/png;base64,(.*)\)", text)
    assert image is not None
    assert base64.b64decode(image[2]).startswith(b"\x89PNG")
    assert image[1] == "iex 2026-03-03: gains of 3 symbols"
    axes = figure.axes[0]
    assert "UTC" in axes.get_xlabel()
    assert "percent" in axes.get_ylabel()
    lines = {str(line.get_label()).split()[0].replace("\\", ""): line for line in axes.lines[1:]}
    gains = expected_gains(feed)
    assert set(lines) == set(gains) == {"A", "B", "C$D$"}
    for symbol, line in lines.items():
        points = gains[symbol]
        moments = [moment.replace(microsecond=0) for moment in num2date(line.get_xdata(orig=False) + 1e-9)]
        assert moments == sorted(points)
        assert np.allclose(np.asarray(line.get_ydata()), [points[moment] for moment in moments], atol=1e-9)
        assert str(line.get_label()).endswith(f" {points[max(points)]:+.2f}%")


def test_of_many_symbols_the_movers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = [f"S{number:03}" for number in range(400)]
    feed = fed(tmp_path, symbols, rounds=6)
    figure, _ = drawn(feed, DAY, monkeypatch)
    last = {symbol: points[max(points)] for symbol, points in expected_gains(feed).items()}
    by_gain = sorted(symbols, key=lambda symbol: (-last[symbol], symbol))
    named = [str(text.get_text()).split()[0] for text in figure.legends[0].get_texts()]
    assert named[:-1] == by_gain[:5] + by_gain[-5:]
    assert figure.legends[0].get_texts()[-1].get_text() == "195 of 390 others"


def test_a_day_without_windows_has_no_picture(tmp_path: Path) -> None:
    feed = fed(tmp_path, ["A"], rounds=12)
    assert gains_picture(feed.lake, feed.described, DAY + timedelta(days=1)) == {}
    assert gains_picture(Lake(str(tmp_path / "empty")), feed.described, DAY) == {}
