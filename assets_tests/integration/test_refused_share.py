"""A load of which most was refused is no success: a check says so, with the reasons, and the terminal shows them."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from assets_tests.support.described import changed
from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.folder_source import DAY, FolderSource, bar_line
from lakehouse.cli.render import print_status
from lakehouse.derive.source import Finding
from lakehouse.domains.market.bars.status import Status, status
from lakehouse.domains.market.quotes.checks import feed_checks
from lakehouse.domains.market.quotes.parse import Heard
from lakehouse.ingest.load import load
from lakehouse.ingest.refused import refusal
from lakehouse.ingest.thresholds import RefusalWarning

NO_PRICE = {"StartPrice": "", "MaxPrice": ""}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """An empty folder, and a lake that was never written."""
    return FolderSource.below(tmp_path, monkeypatch)


def lines(good: int, bad: int) -> list[str]:
    """Rows of an hour, the last ones without prices."""
    made = [bar_line(number % 60, 10.0 + number // 60) for number in range(good)]
    return made + [bar_line(number % 60, **NO_PRICE) for number in range(bad)]


def checked(source: FolderSource, name: str) -> Finding:
    check = next(check for check in source.described.checks if check.name == name)
    return check.run(source.lake, source.described, [DAY])


def few(source: FolderSource) -> Finding:
    return checked(source, "few_rows_refused")


def enough(source: FolderSource) -> Finding:
    return checked(source, "enough_rows_kept")


def printed(found: Status) -> str:
    output = io.StringIO()
    print_status(Console(width=300, file=output), found)
    return " ".join(output.getvalue().split())


@pytest.mark.parametrize(
    ("good", "bad", "few_refused", "enough_kept"),
    [
        (100, 0, True, True),
        (199, 1, True, True),
        (99, 1, False, True),
        (81, 19, False, True),
        (80, 20, False, False),
        (79, 20, False, True),
        (0, 1, False, False),
    ],
)
def test_the_share_decides(source: FolderSource, good: int, bad: int, few_refused: bool, enough_kept: bool) -> None:
    source.put(*lines(good, bad))
    source.take()
    assert (few(source).passed, enough(source).passed) == (few_refused, enough_kept)
    for finding in (few(source), enough(source)):
        assert finding.facts["rows_refused"] == bad
        if not finding.passed:
            assert f"{bad} of {good + bad} rows" in finding.summary
            assert "open is missing or not a double" in finding.summary


def test_a_share_to_look_at_holds_nothing_back(source: FolderSource) -> None:
    """The automation lets what was loaded by hand be published when every blocking check passed."""
    found = {check.name: check for check in source.described.checks}
    warns, holds_back = found["few_rows_refused"], found["enough_rows_kept"]
    assert (warns.table, warns.blocking, warns.severity) == ("raw_bars", False, "warn")
    assert (holds_back.table, holds_back.blocking, holds_back.severity) == ("daily_bars", True, "error")


def test_an_object_that_kept_none_fails_beside_thousands_that_did(source: FolderSource) -> None:
    source.put(*lines(300, 0), hour=8)
    source.put(bar_line(1, **NO_PRICE, hour=9), hour=9)
    source.take()
    finding = enough(source)
    assert (finding.passed, finding.facts["objects_kept_none"]) == (False, 1)
    assert "No row was kept of 2017-07-07/2017-07-07_BINS_XETR09.csv" in finding.summary
    assert finding.summary.endswith("if the source's YAML is wrong, correct it and run lakehouse reload xetra")
    source.put(bar_line(1, hour=9), hour=9)
    source.take()
    assert enough(source).passed


def test_rows_outside_the_calendar_do_not_count(source: FolderSource) -> None:
    saturday = source.folder / "2017-07-08" / "2017-07-08_BINS_XETR08.csv"
    source.put(*lines(100, 0))
    saturday.parent.mkdir()
    text = (source.folder / f"{DAY}/{DAY}_BINS_XETR08.csv").read_text().replace(str(DAY), "2017-07-08")
    saturday.write_text(text)
    source.take()
    load(source.lake, source.described.bars, [DAY.replace(day=10)])
    found = refusal(source.lake, source.described.bars, None)
    assert (found.received, found.refused, found.kept_none, found.verdict(source.described.bars.refusals)) == (
        100,
        0,
        [],
        "good",
    )
    # The row counts to Monday; what to look into is Saturday's object.
    assert "the day is no session of XETR (last: 2017-07-08/2017-07-08_BINS_XETR08.csv)" in printed(
        status(source.lake, source.described)
    )


def test_the_thresholds_are_the_yamls(source: FolderSource) -> None:
    source.put(*lines(9, 1))
    source.take()
    assert not few(source).passed
    bounds = source.config.refusals.model_copy(update={"warn_pct": 11.0})
    source.described = changed(source.described, refusals=bounds)
    assert few(source).passed
    assert enough(source).passed
    bounds = source.config.refusals.model_copy(update={"fail_pct": 5.0, "fail_rows": 10})
    source.described = changed(source.described, refusals=bounds)
    assert not enough(source).passed


def test_status_says_how_much_was_refused_and_which_sessions_are_empty(source: FolderSource) -> None:
    source.put(*lines(3, 1))
    source.take()
    text = printed(status(source.lake, source.described))
    assert "rows received 4 rows refused 1 of 4 rows (25.0%) were refused: 1 high is missing or not a double" in text
    assert "sessions empty" not in text
    source.put()
    source.take()
    text = printed(status(source.lake, source.described))
    assert f"sessions empty {DAY}: no row in any object" in text
    assert "objects 1 empty" in text


def test_a_failed_object_counts_where_it_is_named(source: FolderSource) -> None:
    """An object that failed once and was read later is no failed one."""
    path = source.put(*lines(1, 0))
    path.write_text("")
    source.take()
    assert "objects 1 failed" in printed(status(source.lake, source.described))
    source.put(*lines(1, 0))
    source.take()
    text = printed(status(source.lake, source.described))
    assert "objects 1 loaded" in text
    assert "failed objects none" in text


# Feeds.

FEED_DAY = date(2021, 3, 1)


def told(symbol: str, second: int, price: float | None = 1.0, day: date = FEED_DAY) -> Heard:
    return said(symbol, datetime(day.year, day.month, day.day, 15, tzinfo=UTC) + timedelta(seconds=second), price)


def few_of_feed(lake: FeedLake, day: date | None = FEED_DAY) -> Finding:
    check = next(check for check in feed_checks() if check.name == "few_rows_refused")
    assert (check.table, check.blocking, check.severity) == ("quotes", False, "warn")
    return check.run(lake.lake, lake.described, None if day is None else [day])


@pytest.mark.parametrize(("good", "bad", "passed"), [(0, 0, True), (100, 1, True), (99, 1, False), (2, 8, False)])
def test_a_feed_of_which_much_is_refused_warns_with_share_and_reasons(good: int, bad: int, passed: bool) -> None:
    """The quarantine filled, and no check said so."""
    lake = FeedLake()
    for _ in range(2):
        lake.store([told("AAPL", second, None if second >= good else 1.0 + second) for second in range(good + bad)])
    finding = few_of_feed(lake)
    assert finding.passed == passed
    assert (finding.facts["rows_received"], finding.facts["rows_refused"]) == (good + bad, bad)
    if not passed:
        assert f"{bad} of {good + bad} rows" in finding.summary
        assert finding.rows == [{"reason": "latest_price is missing or not a double", "rows": bad}]


def test_only_the_days_of_the_run_count() -> None:
    lake = FeedLake()
    lake.store([told("AAPL", 0, None), told("AAPL", 1), *(told("AAPL", n, day=date(2021, 3, 2)) for n in range(300))])
    assert not few_of_feed(lake).passed
    assert few_of_feed(lake, date(2021, 3, 2)).passed
    assert few_of_feed(lake, None).passed


def test_a_symbol_of_which_every_answer_is_refused_warns_among_hundreds_of_quotes() -> None:
    lake = FeedLake()
    nameless = told("AAPL", 0)
    assert isinstance(nameless.document, dict)
    junk = replace(nameless, asked=None, text="pushed", document=nameless.document | {"symbol": None})
    lake.store([*(told("AAPL", second) for second in range(300)), junk])
    assert few_of_feed(lake).passed
    lake.store([told("NIO", 0, None)])
    finding = few_of_feed(lake)
    assert not finding.passed
    assert "No row was kept of quotes/NIO" in finding.summary
    lake.store([told("NIO", 1)])
    assert few_of_feed(lake).passed


def test_the_share_at_which_a_feed_warns_is_the_yamls() -> None:
    lake = FeedLake()
    lake.store([told("AAPL", 0, None), told("AAPL", 1)])
    lake.described = lake.described.changed(refusals=RefusalWarning(warn_pct=51))
    assert few_of_feed(lake).passed
