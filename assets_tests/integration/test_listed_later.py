"""A symbol that the vendor lists later than others: months before that are refused, known after the first answer, and
neither asked for again nor a failure.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from assets_tests.support.vendor_lake import DAYS, KEY, VendorLake, asked_for, object_name, small_market, vendor_lake
from lakehouse.cli.render import print_status
from lakehouse.derive.source import Finding
from lakehouse.domains.market.bars.status import status
from lakehouse.ingest import fetch as fetch_module
from lakehouse.settings import settings
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_answers import INTRADAY
from lakehouse.simulators.vendor_api import VendorApi

CLOCK = datetime(2020, 11, 28, 12, tzinfo=UTC)
EARLY, LATE = "2020-10", "2020-11"


@pytest.fixture
def market() -> UsMarket:
    return small_market()


@pytest.fixture
def lake(market: UsMarket, tmp_path: Path) -> Iterator[VendorLake]:
    api = VendorApi(market, api_key=KEY, clock=CLOCK)
    with vendor_lake(tmp_path / "home", api, market.symbols) as made:
        yield made


def refuse(lake: VendorLake, symbol: str, month: str) -> None:
    lake.api.fail(symbol, "error_message", function=INTRADAY, month=month, forever=True)


def readable(lake: VendorLake) -> Finding:
    check = next(each for each in lake.described.checks if (each.table, each.name) == ("raw_bars", "objects_readable"))
    return check.run(lake.lake, lake.described, DAYS)


def asked_bars(lake: VendorLake, since: int) -> set[str]:
    return {asked_for(request) for request in lake.asked(since) if request.function == INTRADAY}


def printed(lake: VendorLake) -> str:
    console = Console(width=300, record=True, file=io.StringIO())
    print_status(console, status(lake.lake, lake.described))
    return console.export_text()


def test_a_month_before_the_listing_is_known_after_the_first_answer(
    lake: VendorLake, market: UsMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    newcomer = market.symbols[1]
    refused = object_name(newcomer, EARLY)
    refuse(lake, newcomer, EARLY)
    loaded = lake.load_bars(DAYS)
    assert loaded.objects == {"loaded": 5, "empty": 0, "failed": 1}
    assert readable(lake).passed

    asked, versions = len(lake.asked()), lake.versions()
    assert lake.load_bars(DAYS).errors == {}
    assert asked_bars(lake, asked) == {
        object_name(symbol, month) for symbol in market.symbols for month in (EARLY, LATE)
    } - {refused}
    assert lake.versions() == versions
    found = status(lake.lake, lake.described)
    assert found.failed_objects == []
    assert [(each.object, each.subject) for each in found.unoffered] == [(refused, newcomer)]
    lines = [line for line in printed(lake).splitlines() if newcomer in line]
    assert len(lines) == 1
    assert f"{newcomer}: 1 month up to {EARLY}, before the vendor's data begin" in lines[0]

    # After a while it is asked for again, and each time in vain puts that off.
    monkeypatch.setattr(fetch_module, "ASK_AGAIN_AFTER", timedelta(0))
    asked = len(lake.asked())
    lake.load_bars(DAYS)
    assert refused in asked_bars(lake, asked)
    monkeypatch.undo()
    asked = len(lake.asked())
    lake.load_bars(DAYS)
    assert refused not in asked_bars(lake, asked)


def test_history_that_the_vendor_extends_is_loaded_when_it_is_asked_for_again(
    lake: VendorLake, market: UsMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    newcomer = market.symbols[1]
    refuse(lake, newcomer, EARLY)
    lake.load_bars(DAYS)
    lake.api.mend()
    monkeypatch.setattr(fetch_module, "ASK_AGAIN_AFTER", timedelta(0))
    assert lake.load_bars(DAYS).objects == {"loaded": 1, "empty": 0, "failed": 0}
    assert status(lake.lake, lake.described).unoffered == []


def test_months_that_come_later_than_the_refusal_tell(lake: VendorLake, market: UsMarket) -> None:
    """The early month alone leaves open whether the name is mistyped."""
    newcomer = market.symbols[1]
    refuse(lake, newcomer, EARLY)
    lake.load_bars(DAYS[:2])
    assert not readable(lake).passed
    lake.load_bars(DAYS[2:])
    assert readable(lake).passed


@pytest.mark.parametrize("case", ["a hole", "the current month", "an unknown symbol", "a wrong key"])
def test_other_refusals_stay_failures_and_are_asked_again(
    case: str, lake: VendorLake, market: UsMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbol, months = market.symbols[1], [EARLY]
    if case == "a hole":
        # What was refused has an earlier month: rows are missing.
        refuse(lake, symbol, LATE)
        months = [LATE]
    elif case == "the current month":
        monkeypatch.setattr(fetch_module, "_is_over", lambda question, dataset: False)
        refuse(lake, symbol, EARLY)
    elif case == "an unknown symbol":
        symbol, months = "NOPE", [EARLY, LATE]
        monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", ",".join([*market.symbols, symbol]))
    else:
        lake.load_bars(DAYS[2:])
        monkeypatch.setenv("ALPHA_VANTAGE_API_KEY", "WRONG")
    settings.cache_clear()
    for _ in range(2):
        asked = len(lake.asked())
        lake.load_bars(DAYS[:2] if case == "a wrong key" else DAYS)
        assert {object_name(symbol, month) for month in months} <= asked_bars(lake, asked)
        assert not readable(lake).passed
        assert status(lake.lake, lake.described).unoffered == []
