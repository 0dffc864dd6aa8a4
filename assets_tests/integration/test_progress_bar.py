"""The bar of a chain of runs: it knows its steps from the first on, and never goes back."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from assets_tests.support.exchange_lake import FIRST, SOURCE, ExchangeLake
from lakehouse.local_dagster.backfill import backfill_source
from lakehouse.local_dagster.display import Display
from lakehouse.settings import settings

STEPS = [
    "xetra.raw_bars",
    "xetra_raw_bars_checks",
    "xetra.bars",
    "xetra_bars_checks",
    "xetra.daily_bars",
    "xetra_daily_bars_checks",
    "xetra.daily_report",
    "market_marts",
]


class RecordedDisplay(Display):
    """A display that keeps what it was given, and the share of the bar after it."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.begun: list[tuple[str, int, int]] = []
        self.within: list[str] = []
        self.shares: list[float | None] = []

    def begin(self, step: str, number: int, steps: int) -> None:
        self.begun.append((step, number, steps))
        super().begin(step, number, steps)

    def show(self, what: str, done: int, total: int) -> None:
        super().show(what, done, total)
        self.within.append(what)
        self.shares.append(self.share)


def test_display__moves_from_the_first_step_to_the_last(
    exchange_lake: ExchangeLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("LAKEHOUSE_LOG_FILE", str(tmp_path / "log.jsonl"))
    settings.cache_clear()
    exchange_lake.exchange.write(exchange_lake.feed)
    display = RecordedDisplay()
    backfill_source(SOURCE, FIRST, FIRST, display)
    assert display.begun == [(step, number, len(STEPS)) for number, step in enumerate(STEPS, 1)]
    assert "models and tests" in display.within
    known = [share for share in display.shares if share is not None]
    assert display.shares[: -len(known)] == [None] * (len(display.shares) - len(known))
    assert known[0] == 0
    assert all(earlier <= later for earlier, later in pairwise(known))
    assert 1 - 1 / len(STEPS) < known[-1] <= 1

    # The bar's runs write nothing to the screen, and all to the log.
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {(line["source"], line["session"]) for line in logged} == {(SOURCE, str(FIRST))}
    assert len({line["run"] for line in logged}) == 2
    assert "DEBUG" not in {line["level"] for line in logged}


def test_show__counts_within_a_step_only_while_it_lasts() -> None:
    display = RecordedDisplay()
    display.begin("a", 2, 4)
    display.show("objects", 1, 2)
    assert display.share == 1.5 / 4
    display.end()
    display.show("objects", 1, 2)
    assert display.share == 0.5
    display.show("looking", 0, 0)
    assert display.share is None
