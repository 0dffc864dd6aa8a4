"""Polling, against a vendor that fails in every manner that it knows: what is asked again within the slot, what isn't,
and that one symbol's trouble is no other's.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest

from assets_tests.support.feed_lake import SOURCE, TOKEN, FeedLake, polled
from assets_tests.support.scripted_vendor import Vendor, running
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.batch import PollError, QuoteBatch
from lakehouse.domains.market.quotes.poller import Poller
from lakehouse.errors import SourceError
from lakehouse.settings import settings
from lakehouse.simulators.quote_faults import FAULTS, TRUE_QUOTES
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import Quote, RandomQuotes

SYMBOLS = ("AAPL", "GME", "NIO")
START = datetime(2021, 3, 1, 15, 0, tzinfo=UTC)
# Where nothing can be understood, another try may bring a quote; where a quote is wrong, the vendor said so.
TRIED_AGAIN = ("null_quote", "rate", "http_500", "timeout", "reset", "wrong_json")
KEPT = tuple(fault for fault in FAULTS if fault not in TRIED_AGAIN)
WORDS = {
    "null_quote": "a quote was expected, not null",
    "rate": "status 429: Too many requests",
    "http_500": "status 500: <!DOCTYPE html>",
    "timeout": "",
    "reset": "",
    "wrong_json": "no JSON, or JSON that was cut",
}


@contextmanager
def vendor(tmp_path: Path, *symbols: str, **options: object) -> Iterator[tuple[QuoteFeed, FeedLake]]:
    """A vendor of SYMBOLS whose time stands still, and a lake that asks it for `symbols`."""
    source = options.pop("source", RandomQuotes(SYMBOLS, seed=3))
    feed = QuoteFeed(source, **({"token": TOKEN, "start": START, "speed": 0.0} | options))  # type: ignore[arg-type]
    with polled(tmp_path, feed, symbols or SYMBOLS) as lake:
        yield feed, lake


def quoted(inbox: QuoteBatch) -> Counter[str | None]:
    return Counter(heard.asked for heard in inbox.heard)


def assert_in_order(errors: list[PollError], symbol: str, attempts: int) -> None:
    """The tries of a symbol that failed are counted from one, and told as they happened."""
    mine = [error for error in errors if error.symbol == symbol]
    assert [error.attempt for error in mine] == list(range(1, attempts + 1))
    assert [error.occurred_at for error in mine] == sorted(error.occurred_at for error in mine)


def test_a_round_asks_for_each_symbol_once(tmp_path: Path) -> None:
    with vendor(tmp_path) as (feed, lake):
        inbox = lake.ask(START)
        assert not inbox.errors
        assert quoted(inbox) == Counter(SYMBOLS) == feed.requests
        stored = lake.store(inbox.heard)
        assert {(row.symbol, row.event_time): row.price for row in lake.told()} == feed.served
        assert stored.quotes.height == 3


def test_every_fault_is_either_tried_again_or_kept() -> None:
    assert sorted([*TRIED_AGAIN, *KEPT]) == sorted(FAULTS)
    assert set(TRUE_QUOTES) < set(KEPT)


@pytest.mark.parametrize("fault", TRIED_AGAIN)
def test_what_brings_no_answer_is_tried_again_within_the_slot(tmp_path: Path, fault: str) -> None:
    with vendor(tmp_path, slow_seconds=0.3) as (feed, lake):
        feed.fail("NIO", fault)
        began = time.monotonic()
        inbox = lake.ask(START)
        took = time.monotonic() - began
        assert quoted(inbox) == Counter(SYMBOLS)
        assert feed.requests == {"AAPL": 1, "GME": 1, "NIO": 2}
        (error,) = inbox.errors
        assert (error.symbol, error.slot_at, error.attempt, error.kind) == ("NIO", START, 1, "passing")
        assert error.error.startswith(WORDS[fault])
        assert error.error
        # Retry-After is one second; otherwise there is a quarter of one, and up to as much again.
        assert took >= (1.0 if fault == "rate" else 0.25)


@pytest.mark.parametrize("fault", ["http_500", "wrong_json"])
def test_tries_are_counted_and_then_given_up(tmp_path: Path, fault: str) -> None:
    with vendor(tmp_path) as (feed, lake):
        feed.fail("NIO", *[fault] * 9)
        inbox = lake.ask(START)
        assert quoted(inbox) == Counter(["AAPL", "GME"])
        assert feed.requests["NIO"] == lake.described.config.api.max_attempts == 3
        assert_in_order(inbox.errors, "NIO", 3)
        assert {error.kind for error in inbox.errors} == {"passing"}
        lake.log.store(inbox)
        rows = lake.errors
        assert rows.select("symbol", "slot_at", "attempt").rows() == [("NIO", START, n) for n in (1, 2, 3)]
        assert set(rows["day"]) == {START.date()}


@pytest.mark.parametrize("fault", KEPT)
def test_what_the_vendor_said_is_kept_for_the_quarantine_to_judge(tmp_path: Path, fault: str) -> None:
    now = datetime.now(UTC)
    with vendor(tmp_path, start=now) as (feed, lake):
        lake.store(lake.ask(now).heard)
        feed.advance(10)
        feed.fail("NIO", fault)
        inbox = lake.ask(now)
        assert not inbox.errors
        assert quoted(inbox) == Counter(SYMBOLS)
        assert feed.requests["NIO"] == 2
        refused = 0 if fault in TRUE_QUOTES else 1
        assert lake.store(inbox.heard).refused == refused
        assert lake.quarantine["object"].to_list() == ["quotes/NIO"] * refused


@pytest.mark.slow
def test_a_slow_symbol_delays_no_other(tmp_path: Path) -> None:
    async def rounds(poller: Poller) -> tuple[QuoteBatch, QuoteBatch]:
        tasks = poller.ask_all(START, 3.0)
        await asyncio.sleep(1.0)
        soon = poller.inbox.take()
        await asyncio.gather(*tasks)
        return soon, poller.inbox.take()

    async def asking(lake: FeedLake) -> tuple[QuoteBatch, QuoteBatch]:
        async with Poller(lake.described) as poller:
            return await rounds(poller)

    with vendor(tmp_path, slow_seconds=1.5) as (feed, lake):
        feed.fail("NIO", "timeout")
        soon, late = asyncio.run(asking(lake))
        assert quoted(soon) == Counter(["AAPL", "GME"])
        assert not soon.errors
        assert quoted(late) == Counter(["NIO"])
        assert_in_order(late.errors, "NIO", 1)


@pytest.mark.parametrize(
    ("faults", "slow", "kinds"),
    [
        (["timeout"], 9.0, ["unfinished"]),
        (["reset", "timeout"], 9.0, ["passing", "unfinished"]),
    ],
    ids=["no answer", "no answer again"],
)
def test_the_slot_has_an_end(tmp_path: Path, faults: list[str], slow: float, kinds: list[str]) -> None:
    with vendor(tmp_path, slow_seconds=slow) as (feed, lake):
        feed.fail("NIO", *faults)
        began = time.monotonic()
        inbox = lake.ask(START, 0.9)
        assert 0.8 < time.monotonic() - began < 2.5
        assert quoted(inbox) == Counter(["AAPL", "GME"])
        assert [error.kind for error in inbox.errors] == kinds
        assert_in_order(inbox.errors, "NIO", len(kinds))
        lake.log.store(inbox)
        assert lake.errors.select("symbol", "slot_at", "attempt").n_unique() == len(kinds) == lake.errors.height


def rounds(lake: FeedLake, count: int, seconds: float) -> list[QuoteBatch]:
    """Rounds of one poller, each as long as its slot."""

    async def asking() -> list[QuoteBatch]:
        inboxes = []
        async with Poller(lake.described.changed(poll_interval_s=seconds)) as poller:
            for number in range(count):
                slot = asyncio.create_task(asyncio.sleep(seconds))
                await asyncio.gather(*poller.ask_all(START + timedelta(seconds=number), seconds))
                await slot
                inboxes.append(poller.inbox.take())
        return inboxes

    return asyncio.run(asking())


@pytest.mark.slow
def test_a_pause_that_the_vendor_wants_outlasts_the_slot(tmp_path: Path) -> None:
    """A Retry-After of one second, in slots of 0.4: nobody is asked before it is over, and each slot says so."""
    with vendor(tmp_path) as (feed, lake):
        feed.fail("NIO", "rate")
        first, *later = rounds(lake, 6, 0.4)
        assert [(error.kind, error.attempt) for error in first.errors] == [("passing", 1), ("unfinished", 2)]
        waited = [inbox for inbox in later if inbox.errors]
        assert 1 <= len(waited) <= 3
        assert later[: len(waited)] == waited
        for inbox in waited:
            (error,) = inbox.errors
            assert (error.symbol, error.kind, error.attempt) == ("NIO", "unfinished", 1)
            assert error.error.startswith("not asked: the vendor wants a pause until ")
            assert quoted(inbox) == Counter(["AAPL", "GME"])
        assert feed.requests == {"AAPL": 6, "GME": 6, "NIO": 1 + 5 - len(waited)}


@pytest.mark.slow
def test_symbols_take_turns_where_the_rate_is_too_low_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_IEX_REQUESTS_PER_MINUTE", "120")
    with vendor(tmp_path) as (feed, lake):
        inboxes = rounds(lake, 6, 1.0)
        assert Poller(lake.described.changed(poll_interval_s=1.0)).shortfall == (
            "3 symbols every 1 s are 180 requests a minute, and 120 are allowed: symbols take turns, "
            "each is asked every 2 s"
        )
        assert Poller(lake.described).shortfall is None
        assert max(feed.requests.values()) - min(feed.requests.values()) <= 1
        assert min(feed.requests.values()) >= 3
        texts = {error.error for inbox in inboxes for error in inbox.errors}
        assert texts <= {
            "the slot was over before it could be asked: 120 requests a minute are allowed",
            "the slot was over before there was an answer",
        }
        assert any("could be asked" in text for text in texts)


def test_an_answer_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    with vendor(tmp_path) as (_, lake):
        poller = Poller(lake.described)
        body = codecs.BOM_UTF8 + json.dumps({"symbol": "NIO"}).encode()
        answer = poller._understood(("NIO",), Answered(), body)
        assert isinstance(answer, list)
        assert [item.document for item in answer] == [{"symbol": "NIO"}]


def test_errors_are_told_in_one_line_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    with vendor(tmp_path) as (_, lake):
        poller = Poller(lake.described)
        poller._failed(("NIO",), START, 1, "passing", "two\nlines and \x1b[31mred")
        assert poller.inbox.errors[0].error == "two lines and  [31mred"


class Answered:
    """As much of a response as is looked at."""

    status = 200

    def get_header(self, name: str) -> str | None:
        return None


def test_silence_is_given_up_and_tried_again(tmp_path: Path) -> None:
    with vendor(tmp_path, slow_seconds=9.0) as (feed, lake):
        api = lake.config.api.model_copy(update={"timeout_s": 0.3})
        lake.described = lake.described.changed(api=api)
        feed.fail("NIO", "timeout")
        inbox = lake.ask(START)
        assert quoted(inbox) == Counter(SYMBOLS)
        assert inbox.errors[0].error.startswith("silence: nothing within 0.3 s")


def test_an_unknown_symbol_is_asked_for_once_a_round(tmp_path: Path) -> None:
    with vendor(tmp_path, "AAPL", "N0NE", "NIO") as (feed, lake):
        inbox = lake.ask(START)
        assert quoted(inbox) == Counter(["AAPL", "NIO"])
        assert feed.requests["N0NE"] == 1
        (error,) = inbox.errors
        assert (error.symbol, error.kind, error.error) == ("N0NE", "permanent", "status 404: Unknown symbol")


def test_a_wrong_token_is_no_passing_trouble_and_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with vendor(tmp_path, token="another") as (feed, lake), caplog.at_level(logging.DEBUG):
        inbox = lake.ask(START)
        assert not inbox.heard
        assert feed.errors == {"wrong_token": 3}
        assert {(error.kind, error.error) for error in inbox.errors} == {
            ("permanent", "status 403: The API key provided is not valid.")
        }
        lake.log.store(inbox)
        everything = [*capfd.readouterr(), caplog.text, str(inbox.errors), str(lake.errors.rows())]
        assert not [text for text in everything if TOKEN in text]


def test_nobody_there_is_told_without_the_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with vendor(tmp_path) as (_, lake):
        pass
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.DEBUG):
        patch.setenv("LAKEHOUSE_IEX_URL", "http://127.0.0.1:9")
        patch.setenv("LAKEHOUSE_IEX_SYMBOLS", "NIO")
        patch.setenv("IEX_TOKEN", TOKEN)
        settings.cache_clear()
        inbox = lake.ask(START)
    assert_in_order(inbox.errors, "NIO", 3)
    assert {error.kind for error in inbox.errors} == {"passing"}
    assert "refused" in inbox.errors[0].error
    assert TOKEN not in caplog.text + str(inbox)


def test_a_key_that_belongs_into_a_header_is_not_in_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vendor(tmp_path) as (_, lake), running(Vendor()) as server:
        monkeypatch.setenv("LAKEHOUSE_IEX_URL", server.url)
        monkeypatch.setenv("LAKEHOUSE_IEX_SYMBOLS", "NIO")
        settings.cache_clear()
        key = lake.config.api.key.model_copy(update={"header": "Authorization"})
        lake.described = lake.described.changed(api=lake.config.api.model_copy(update={"key": key}))
        lake.ask(START)
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert sent["authorization"] == f"Bearer {TOKEN}"
    assert server.asked[0] == {}


def test_a_vendor_who_repeats_the_token_does_not_bring_it_into_the_lake(tmp_path: Path) -> None:
    # A quote without a price goes to the quarantine as it came, and this token is a part of it.
    with vendor(tmp_path, "NIO", token="NIO Incorporated") as (feed, lake):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IEX_TOKEN", "NIO Incorporated")
            feed.fail("NIO", "null_price")
            inbox = lake.ask(START)
            assert len(inbox.heard) == 1
        lake.store(inbox.heard)
        (row,) = lake.quarantine["row"]
        assert "NIO Incorporated" not in row
        assert json.loads(row)["companyName"] == "***"


def test_an_error_that_repeats_the_token_is_told_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vendor(tmp_path, "N0NE", token="symbol") as (_, lake):
        monkeypatch.setenv("IEX_TOKEN", "symbol")
        (error,) = lake.ask(START).errors
        assert error.error == "status 404: Unknown ***"


class Watched(RandomQuotes):
    """Quotes, and the moments at which they were asked for."""

    def __init__(self) -> None:
        super().__init__(SYMBOLS, seed=3)
        self.met: list[float] = []

    def quote(self, symbol: str, now: datetime) -> Quote | None:
        self.met.append(time.monotonic())
        return super().quote(symbol, now)


def test_requests_are_spread_evenly_over_the_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_IEX_REQUESTS_PER_MINUTE", "300")
    source = Watched()
    with vendor(tmp_path, source=source) as (feed, lake):
        feed.fail("NIO", "http_500")
        inbox = lake.ask(START)
        assert quoted(inbox) == Counter(SYMBOLS)
        assert len(source.met) == 4
        # Five a second: 0.2 s apart, less what a request may be longer on its way than the next.
        assert min(after - before for before, after in pairwise(source.met)) > 0.1
        assert source.met[-1] - source.met[0] > 0.55


def test_a_vendor_that_limits_the_rate_is_obeyed(tmp_path: Path) -> None:
    with vendor(tmp_path, requests_per_second=2.0) as (feed, lake):
        inbox = lake.ask(START)
        assert quoted(inbox) == Counter(SYMBOLS)
        assert feed.errors["rate_limit"] == len(inbox.errors) >= 1
        assert {error.kind for error in inbox.errors} == {"passing"}


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("IEX_TOKEN", " ", "iex wants a key and IEX_TOKEN is not set"),
        ("LAKEHOUSE_IEX_URL", "cloud.iexapis.com", "is not the address of an API; set LAKEHOUSE_IEX_URL"),
        ("LAKEHOUSE_IEX_URL", "htp://me:password@cloud.iexapis.com", "^'cloud.iexapis.com' is not the address"),
        ("LAKEHOUSE_IEX_URL", "https://cloud.iexapis.com/v1?token=T", "LAKEHOUSE_IEX_URL has parameters"),
        ("LAKEHOUSE_IEX_SYMBOLS", " , ", "LAKEHOUSE_IEX_SYMBOLS names no symbol"),
        ("LAKEHOUSE_IEX_REQUESTS_PER_MINUTE", "many", "set it to a whole number"),
    ],
)
def test_settings_that_cannot_work_are_told_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv("IEX_TOKEN", TOKEN)
    monkeypatch.setenv(variable, value)
    settings.cache_clear()
    with pytest.raises(SourceError, match=said):
        Poller(feed_named(SOURCE))


def test_an_answer_was_made_when_the_vendor_says_so(tmp_path: Path) -> None:
    # Whole seconds of the Date header, by the vendor's clock.
    with vendor(tmp_path, "NIO") as (_, lake):
        (heard,) = lake.ask(START).heard
        assert heard.published_at == START
    with vendor(tmp_path, "NIO", start=datetime.now(UTC) + timedelta(hours=1)) as (_, lake):
        (heard,) = lake.ask(START).heard
        assert heard.published_at <= datetime.now(UTC)


@pytest.mark.slow
def test_threads_that_end_can_poll_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client library that one of them loads crashes the process in the next."""
    monkeypatch.setenv("IEX_TOKEN", TOKEN)
    code = f"""
        import asyncio, threading
        from lakehouse.catalog import feed_named
        from lakehouse.domains.market.quotes.poller import Poller

        async def connect():
            async with Poller(feed_named({SOURCE!r})):
                pass

        for number in range(5):
            thread = threading.Thread(target=lambda: asyncio.run(connect()))
            thread.start()
            thread.join()
            print(number)
    """
    ended = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.split()) == (0, ["0", "1", "2", "3", "4"]), ended.stderr
