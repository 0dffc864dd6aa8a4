"""A vendor's API that refuses, fails and damages its answers: what becomes of the lake, and how it heals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.described import changed
from assets_tests.support.vendor_lake import (
    DAYS,
    KEY,
    SOURCE,
    VendorLake,
    asked_for,
    files_with,
    object_name,
    small_market,
    vendor_lake,
)
from lakehouse.domains.market.bars.status import status
from lakehouse.errors import SourceError
from lakehouse.ingest.http import connection as api_module
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_answers import DAILY, FAULTS, INTRADAY, Fault, Reply, refusal
from lakehouse.simulators.vendor_api import VendorApi

CLOCK = datetime(2020, 11, 28, 12, tzinfo=UTC)
MONTHS = ("2020-10", "2020-11")
ASKED_ONCE: tuple[Fault, ...] = ("error_message", "json_instead")
ROWS_DAMAGED: dict[Fault, int] = {"damaged_header": 0, "damaged_trailer": 1, "damaged_rows": 3}
ASKED_AGAIN = tuple(
    fault for fault in FAULTS if fault not in (*ASKED_ONCE, *ROWS_DAMAGED, "information", "slow")
)  # fmt: skip
SAID: dict[Fault, str] = {
    "error_message": "Error Message: Invalid API call",
    "json_instead": "JSON where CSV was asked for",
    "rate_note": "Note: Thank you for using Alpha Vantage!",
    "http_429": "status 429",
    "http_429_date": "status 429",
    "http_500": "status 500",
    "http_503": "status 503",
    "reset": "the last met",
    "cut": "the last met",
    "cut_quietly": "an answer that was cut",
    "empty_body": "an empty answer",
    "wrong_json": "a web page instead of data",
}


class Rationed(VendorApi):
    """A vendor whose answers may be numbered: `granted` are left, and `asked` are the objects asked for."""

    granted = 1_000
    asked: list[str]

    def answer(self, parameters: dict[str, str]) -> Reply:
        self.asked.append(object_name(parameters["symbol"], parameters.get("month")))
        self.granted -= 1
        return super().answer(parameters) if self.granted >= 0 else refusal("information", KEY)

    def next_day(self, granted: int) -> list[str]:
        """Grants so many answers; what will be asked for goes into the list."""
        self.granted, self.asked = granted, []
        return self.asked


def vendor(market: UsMarket) -> Rationed:
    made = Rationed(market, api_key=KEY, clock=CLOCK, retry_after=0, slow_seconds=0.6)
    made.next_day(1_000)
    return made


@pytest.fixture
def market() -> UsMarket:
    return small_market()


@pytest.fixture
def lake(market: UsMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VendorLake]:
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.002)
    with vendor_lake(tmp_path / "home", vendor(market), market.symbols) as made:
        yield made


def treated(lake: VendorLake, **changes: Any) -> VendorLake:
    """The lake, whose vendor is treated in another way than its YAML says."""
    assert lake.described.config.api is not None
    lake.described = changed(lake.described, api=lake.described.config.api.model_copy(update=changes))
    return lake


def bars_of(lake: VendorLake) -> list[tuple[Any, ...]]:
    columns = "symbol, session, segment, start_at, end_at, open, high, low, close, volume"
    return sorted(lake.lake.sql(f"SELECT {columns} FROM {SOURCE}.bars").fetchall())  # type: ignore[union-attr]


def truth(market: UsMarket, *without: tuple[str, str]) -> list[tuple[Any, ...]]:
    """The market's bars, apart from those of some symbols and months."""
    return sorted(row for row in market.truth_bars().rows() if (row[0], f"{row[1]:%Y-%m}") not in without)


def assert_sound(lake: VendorLake, market: UsMarket) -> None:
    """Every bar and official row of the market is in the lake, nothing has failed, and the counts add up."""
    assert bars_of(lake) == truth(market)
    official = market.truth_daily()
    stored = lake.rows(f"{SOURCE}.official_daily").sort("symbol", "session")
    for mine, theirs in (("dividend_amount", "dividend"), ("split_coefficient", "split"), ("close", "close")):
        assert stored[mine].to_list() == official.sort("symbol", "session")[theirs].to_list()
    assert lake.failed() == {}
    counts = lake.lake.sql("SELECT received, kept + duplicates + superseded + quarantined FROM lake.conservation")
    assert counts is not None
    assert all(received == answered for received, answered in counts.fetchall())


def test_requests_without_an_answer_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault meets another request; two requests are answered, and the official series."""
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.002)
    market = small_market(7)
    requests = [(symbol, month) for symbol in market.symbols for month in MONTHS]
    faults = dict(zip(requests, (*ASKED_ONCE, *ASKED_AGAIN), strict=False))
    assert len(requests) - len(faults) == 2
    with vendor_lake(tmp_path / "home", vendor(market), market.symbols) as lake:
        for (symbol, month), fault in faults.items():
            lake.api.fail(symbol, fault, function=INTRADAY, month=month, forever=True)
        loaded = lake.update()
        assert loaded["bars"].objects == {"loaded": 2, "empty": 0, "failed": len(faults)}
        assert loaded["official_daily"].errors == {}
        failed, asked = lake.failed(), Counter(asked_for(request) for request in lake.api.requests)
        assert failed.keys() == loaded["bars"].errors.keys() == {object_name(*request) for request in faults}
        for request, fault in faults.items():
            error, tries = failed[object_name(*request)], 1 if fault in ASKED_ONCE else 5
            assert SAID[fault] in error
            assert f"TIME_SERIES_INTRADAY symbol={request[0]}" in error
            assert f"month={request[1]}" in error
            assert asked[object_name(*request)] == tries, fault
            assert ("Check what is asked about" in error) == (tries == 1)
            assert ("after 5 tries" in error) == (tries == 5)
        assert bars_of(lake) == truth(market, *faults)
        assert lake.rows("lake.quarantine").height == 0

        # Another run in vain says nothing new.
        versions = lake.versions()
        lake.update()
        assert lake.versions() == versions

        lake.api.mend()
        lake.update()
        assert_sound(lake, market)
        versions = lake.versions()
        lake.update()
        assert lake.versions() == versions


@pytest.mark.parametrize(("fault", "refused"), ROWS_DAMAGED.items())
def test_damaged_answers_give_their_good_rows(lake: VendorLake, market: UsMarket, fault: Fault, refused: int) -> None:
    symbol, month = market.symbols[0], MONTHS[1]
    wanted = truth(market)
    lake.api.fail(symbol, fault, function=INTRADAY, month=month)
    loaded = lake.update()
    assert loaded["bars"].errors == {}
    assert loaded["bars"].rows_quarantined == refused
    quarantine = lake.rows("lake.quarantine")
    assert quarantine["object"].to_list() == [object_name(symbol, month)] * refused
    assert all(len(reasons) for reasons in quarantine["reasons"])
    lost = set(wanted) - set(bars_of(lake))
    assert len(lost) == (refused if fault == "damaged_rows" else 0)
    if fault == "damaged_rows":
        assert [tuple(reasons) for reasons in quarantine["reasons"]] == [
            ("close is missing or not a double",),
            ("high is below open, low or close", "low is above open, high or close"),
            ("the row has 5 fields where the header has 6",),
        ]

    lake.update()
    assert_sound(lake, market)
    assert lake.rows("lake.quarantine").height == refused


def test_faults_that_pass_are_not_seen(lake: VendorLake, market: UsMarket) -> None:
    """Two tries in vain and a slow one; then there is an answer."""
    lake.api.fail(market.symbols[0], "http_503", "reset", month=MONTHS[0])
    lake.api.fail(market.symbols[1], "slow", function=DAILY)
    loaded = lake.update()
    assert [product.errors for product in loaded.values()] == [{}, {}]
    assert_sound(lake, market)
    answers = [request.answer for request in lake.api.requests if request.symbol == market.symbols[0]]
    assert [answers.count(word) for word in ("http_503", "reset", "data")] == [1, 1, 3]


def test_a_vendor_who_keeps_silent_is_given_up(lake: VendorLake, market: UsMarket) -> None:
    treated(lake, timeout_s=0.2, max_attempts=2)
    lake.api.fail(market.symbols[0], "slow", month=MONTHS[0], forever=True)
    loaded = lake.update()
    (error,) = loaded["bars"].errors.values()
    assert "silence: nothing within 0.2 s" in error
    assert "after 2 tries" in error
    lake.api.mend()
    lake.update()
    assert_sound(lake, market)


def test_the_quota_ends_a_run_and_the_next_goes_on(lake: VendorLake, market: UsMarket) -> None:
    treated(lake, concurrency=1)
    names = [object_name(symbol, month) for month in MONTHS for symbol in market.symbols]
    asked = rationed(lake, 2)
    assert lake.load_bars(DAYS).objects == {"loaded": 2, "empty": 0, "failed": 4}
    assert asked == names[:3]
    failed = lake.failed()
    assert list(failed) == names[2:]
    assert "rate limit is 25 requests per day" in failed[names[2]]
    assert "the vendor's quota is renewed" in failed[names[2]]
    assert all("not asked" in failed[name] for name in names[3:])
    # The vendor's refusal repeats the key.
    assert files_with(lake.home, KEY.encode()) == []

    # The next day goes on where this one stopped.
    asked = rationed(lake, 3)
    assert lake.load_bars(DAYS).objects["loaded"] == 3
    assert asked == names[2:]
    asked = rationed(lake, 6)
    assert lake.load_bars(DAYS).objects == {"loaded": 3, "empty": 0, "failed": 0}
    assert asked == [names[5], *names[:5]]
    rationed(lake, 1_000)
    lake.update()
    assert_sound(lake, market)


def test_a_run_that_has_asked_for_long_enough_leaves_the_rest_to_the_next(lake: VendorLake, market: UsMarket) -> None:
    treated(lake, concurrency=1, run_timeout_s=0.3)
    lake.api.fail(market.symbols[0], "slow", month=MONTHS[0], forever=True)
    errors = [*lake.load_bars(DAYS).errors.values()]
    assert len(errors) == len(MONTHS) * len(market.symbols)
    assert "the 0.3 s for which a run may send requests are over" in errors[0]
    assert all(error.startswith("not asked") for error in errors[1:])
    lake.api.mend()
    treated(lake, run_timeout_s=600.0)
    lake.update()
    assert_sound(lake, market)


def test_a_quota_starves_nobody(lake: VendorLake, market: UsMarket) -> None:
    """An answer without news leaves no trace in the landing; even so each request has its turn."""
    treated(lake, concurrency=1)
    lake.update()
    answered: list[str] = []
    for _ in range(3):
        asked = rationed(lake, 2)
        lake.load_bars(DAYS)
        answered += asked[:2]
    assert sorted(answered) == sorted(object_name(symbol, month) for month in MONTHS for symbol in market.symbols)
    rationed(lake, 1_000)
    lake.load_bars(DAYS)
    assert_sound(lake, market)


def rationed(lake: VendorLake, granted: int) -> list[str]:
    assert isinstance(lake.api, Rationed)
    return lake.api.next_day(granted)


def test_nobody_there_is_asked_once(lake: VendorLake, market: UsMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve symbols and four months took minutes of tries when the vendor was down."""
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_URL", "http://127.0.0.1:9/query")
    settings.cache_clear()
    loaded = load(lake.lake, treated(lake, max_attempts=1, concurrency=1).described.bars, DAYS)
    errors = list(loaded.errors.values())
    assert len(errors) == len(market.symbols) * len(MONTHS)
    assert "ConnectError" in errors[0]
    assert all(error.startswith("not asked") for error in errors[1:])


def test_a_symbol_that_was_mistyped_once_is_no_later_loss(lake: VendorLake, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = lake.variables["LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS"]
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", f"{symbols},NOPE")
    lake.update()

    def said() -> list[str]:
        checks = [check for check in lake.described.checks if check.name == "objects_readable"]
        return [check.run(lake.lake, lake.described, DAYS).summary for check in checks]

    assert all("NOPE" in summary for summary in said())
    assert len(status(lake.lake, lake.described).failed_objects) == len(MONTHS) + 1
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS", symbols)
    assert said() == ["nothing found", "nothing found"]
    assert status(lake.lake, lake.described).failed_objects == []


def test_prices_are_adjusted_or_not(lake: VendorLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED", "maybe")
    with pytest.raises(SourceError, match="LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED is 'maybe'; set it to true or false"):
        lake.load_bars(DAYS)
    assert lake.asked() == []
