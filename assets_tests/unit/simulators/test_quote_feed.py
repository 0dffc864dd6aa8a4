"""The simulated quote vendor: what it knows, what it says, what goes wrong, and what it remembers of both.

How it speaks HTTP is tested in `test_quote_server_simulator`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.patience import PATIENCE_S
from lakehouse.simulators.quote_faults import FAULTS
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import Quote, RandomQuotes, ReplayedQuotes

SYMBOLS = ("AAPL", "BRK.B", "TSLA")
START = datetime(2021, 3, 1, 15, 0, 0, 500_000, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SOURCE = RandomQuotes(SYMBOLS, seed=3)
MOMENTS = [START + timedelta(seconds=10 * n) for n in range(300)]


def feed_of(**options: object) -> QuoteFeed:
    """A feed whose time stands still, unless told otherwise."""
    return QuoteFeed(SOURCE, **({"start": START, "speed": 0.0} | options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=5.0) as opened:
        yield opened


def ask(client: httpx.Client, feed: QuoteFeed, symbol: str = "AAPL", **parameters: str) -> httpx.Response:
    return client.get(f"{feed.url}/stock/{symbol}/quote", params=parameters)


def told(response: httpx.Response) -> tuple[str, datetime, float]:
    """Symbol, event time and price of an answer."""
    assert response.status_code == 200
    body = response.json()
    return body["symbol"], EPOCH + timedelta(milliseconds=body["latestUpdate"]), body["latestPrice"]


def key(quote: Quote | None) -> tuple[str, datetime, float]:
    assert quote is not None
    return quote.symbol, quote.event_time, quote.latest_price


# What the vendor knows.


def test_random_quotes_depend_on_seed_and_symbol_alone() -> None:
    expected = [SOURCE.quote("TSLA", moment) for moment in MOMENTS]
    fresh = RandomQuotes(["NIO", "TSLA"], seed=3)
    assert [fresh.quote("TSLA", moment) for moment in reversed(MOMENTS)] == expected[::-1]
    assert [RandomQuotes(SYMBOLS, seed=4).quote("TSLA", moment) for moment in MOMENTS] != expected
    prices = [[quote.latest_price for moment in MOMENTS if (quote := SOURCE.quote(name, moment))] for name in SYMBOLS]
    assert len({tuple(series) for series in prices}) == len(SYMBOLS)
    assert SOURCE.quote("NONE", START) is None


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_poll_each_ten_seconds_repeats_now_and_then_and_never_goes_back(symbol: str) -> None:
    quotes = [quote for moment in MOMENTS if (quote := SOURCE.quote(symbol, moment))]
    ages = [moment - quote.event_time for moment, quote in zip(MOMENTS, quotes, strict=True)]
    assert timedelta(0) <= min(ages)
    assert max(ages) < timedelta(seconds=14)
    times = [quote.event_time for quote in quotes]
    assert times == sorted(times)
    assert 0.02 < 1 - len(set(times)) / len(times) < 0.3
    assert [quote.volume for quote in quotes] == sorted(quote.volume for quote in quotes)
    for quote in quotes:
        assert quote.event_time.microsecond % 1000 == 0
        assert quote.latest_price == round(quote.latest_price, 2)
        assert 0 < quote.bid < quote.latest_price < quote.ask
    assert len({quote.latest_price for quote in quotes}) > 8


@given(st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)), st.integers(0, 3_600_000))
def test_what_was_said_stays_said_until_the_next_update(moment: datetime, later_ms: int) -> None:
    now = moment.replace(tzinfo=UTC)
    quote = SOURCE.quote("AAPL", now)
    later = SOURCE.quote("AAPL", now + timedelta(milliseconds=later_ms))
    assert quote is not None
    assert later is not None
    assert SOURCE.quote("AAPL", quote.event_time) == quote
    assert later.event_time >= quote.event_time
    assert (later == quote) == (later.event_time == quote.event_time)
    if later != quote:
        before = SOURCE.quote("AAPL", later.event_time - timedelta(milliseconds=1))
        assert before is not None
        assert quote.event_time <= before.event_time < later.event_time


def test_a_walk_takes_small_steps_and_has_no_seams() -> None:
    quotes = [SOURCE.quote("AAPL", START + timedelta(seconds=n)) for n in range(20_000)]
    prices = [quote.latest_price for quote in quotes if quote]
    assert max(abs(after / before - 1) for before, after in pairwise(prices)) < 0.006
    assert max(prices) / min(prices) < 1.2


def test_replayed_quotes_are_told_from_their_time_on() -> None:
    def quote(seconds: int, price: float, symbol: str = "AAPL") -> Quote:
        return Quote(symbol, price, START + timedelta(seconds=seconds), 1, price - 1, price + 1)

    source = ReplayedQuotes({"AAPL": [quote(20, 3.0), quote(0, 1.0), quote(0, 2.0)], "NIO": []})
    said = [source.quote("AAPL", START + timedelta(seconds=n)) for n in (-1, 0, 19, 20, 900)]
    assert [quote and quote.latest_price for quote in said] == [None, 2.0, 2.0, 3.0, 3.0]
    assert source.quote("NIO", START) is source.quote("NONE", START) is None
    with pytest.raises(ValueError, match="NIO is listed under AAPL"):
        ReplayedQuotes({"AAPL": [quote(0, 1.0, "NIO")]})
    with pytest.raises(ValueError, match="whole milliseconds"):
        ReplayedQuotes({"AAPL": [Quote("AAPL", 1.0, START + timedelta(microseconds=1), 1, 1.0, 1.0)]})


# What it answers.


def test_an_answer_has_the_vendors_names(client: httpx.Client) -> None:
    quote = Quote("F-A", 12.5, START, 700, 12.49, 12.52, 300, 400, previous_close=10.0)
    with QuoteFeed(ReplayedQuotes({"F-A": [quote]}), start=START + timedelta(seconds=9), speed=0.0) as feed:
        response = ask(client, feed, "F-A")
    wanted = {
        "symbol": "F-A",
        "latestPrice": 12.5,
        "latestUpdate": 1_614_610_800_500,
        "latestTime": "10:00:00 AM",
        "latestVolume": 700,
        "volume": 700,
        "previousClose": 10.0,
        "change": 2.5,
        "changePercent": 0.25,
        "iexBidPrice": 12.49,
        "iexBidSize": 300,
        "iexAskPrice": 12.52,
        "iexAskSize": 400,
        "isUSMarketOpen": True,
    }
    assert {name: response.json()[name] for name in wanted} == wanted
    assert {"companyName", "primaryExchange", "open", "high", "low", "latestSource"} <= set(response.json())
    assert response.headers["Content-Type"] == "application/json"
    assert parsedate_to_datetime(response.headers["Date"]) == datetime(2021, 3, 1, 15, 0, 9, tzinfo=UTC)


def test_what_isnt_there(client: httpx.Client) -> None:
    with feed_of() as feed:
        unknown = ask(client, feed, "NONE")
        assert (unknown.status_code, unknown.text) == (404, "Unknown symbol")
        assert client.get(f"{feed.url}/stock/AAPL/chart").status_code == 404
        assert told(ask(client, feed, "BRK%2EB"))[0] == "BRK.B"
        assert feed.requests == {"NONE": 1, "BRK.B": 1}
        assert feed.errors == {"unknown_symbol": 1}


def test_a_wanted_token(client: httpx.Client) -> None:
    with feed_of(token="T0KEN") as feed:
        answers = [ask(client, feed), ask(client, feed, token="T"), ask(client, feed, token="T0KEN")]
        assert [answer.status_code for answer in answers] == [401, 403, 200]
        assert feed.statuses == {401: 1, 403: 1, 200: 1}
        assert len(feed.served) == 1


def test_more_requests_than_allowed_are_refused(client: httpx.Client) -> None:
    with feed_of(requests_per_second=5.0) as feed:
        answers = [ask(client, feed) for _ in range(30)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        assert len(refused) > 10
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert feed.errors == {"rate_limit": len(refused)}
        time.sleep(0.25)
        assert ask(client, feed).status_code == 200


def test_polling_gets_what_the_source_says_and_all_of_it_is_remembered(client: httpx.Client) -> None:
    expected = []
    with feed_of() as feed:
        for moment in MOMENTS[:60]:
            assert feed.now() == moment
            for symbol in SYMBOLS:
                answer = told(ask(client, feed, symbol))
                assert answer == key(SOURCE.quote(symbol, moment))
                assert feed.served[answer[:2]] == answer[2]
                expected.append(answer)
            feed.advance(10)
        assert feed.served == {(symbol, moment): price for symbol, moment, price in expected}
        assert len(feed.served) < len(expected)
        assert feed.requests == dict.fromkeys(SYMBOLS, 60)
        lines = [json.loads(line) for line in client.get(f"{feed.url}/_served").text.splitlines()]
        stats = client.get(f"{feed.url}/_stats").json()
    assert [(line["symbol"], line["latestUpdate"], line["latestPrice"]) for line in lines] == [
        (symbol, round((moment - EPOCH).total_seconds() * 1000), price)
        for (symbol, moment), price in feed.served.items()
    ]
    assert (stats["served"], stats["requests"], stats["statuses"]) == (len(lines), feed.requests, {"200": 180})


def test_feed_time_runs_at_its_speed(client: httpx.Client) -> None:
    with feed_of(speed=1000.0) as feed:
        before = told(ask(client, feed))[1]
        began, feed_began = time.monotonic(), feed.now()
        time.sleep(0.1)
        passed = (feed.now() - feed_began).total_seconds()
        assert 100 <= passed <= 1000 * (time.monotonic() - began) + 1
        assert told(ask(client, feed))[1] - before > timedelta(seconds=80)
    with feed_of(start=None, speed=1.0) as real:
        assert abs(real.now() - datetime.now(UTC)) < timedelta(seconds=2)


# What goes wrong.


def test_true_quotes_at_the_wrong_time_are_served(client: httpx.Client) -> None:
    with feed_of() as feed:
        first = told(ask(client, feed))
        feed.advance(60)
        feed.fail("AAPL", "repeated", "out_of_order")
        repeated, back = told(ask(client, feed)), told(ask(client, feed))
        assert repeated == first
        assert back == key(SOURCE.quote("AAPL", first[1] - timedelta(milliseconds=1)))
        for _ in range(20):
            feed.advance(60)
            feed.fail("AAPL", "late")
            late = told(ask(client, feed))
            assert timedelta(seconds=20) <= feed.now() - late[1] <= timedelta(seconds=120)
            assert late == key(SOURCE.quote("AAPL", late[1]))
            assert feed.served[late[:2]] == late[2]
        assert {first[:2], back[:2]} <= set(feed.served)
        assert feed.errors == {"repeated": 1, "out_of_order": 1, "late": 20}


def test_answers_without_a_valid_quote_are_not_served(client: httpx.Client) -> None:
    with feed_of() as feed:
        feed.fail("AAPL", "missing_price", "null_price", "text_price", "null_quote", "wrong_symbol", "future")
        missing, null, text, nothing, other, future = (ask(client, feed).json() for _ in range(6))
        feed.fail("AAPL", "rate", "http_500")
        rate, broken = ask(client, feed), ask(client, feed)
        assert feed.served == {}
        quote = ask(client, feed).json()
        assert len(feed.served) == 1
    assert missing == {name: value for name, value in quote.items() if name != "latestPrice"}
    assert null == quote | {"latestPrice": None}
    assert text == quote | {"latestPrice": "n/a"}
    assert nothing is None
    assert other["latestPrice"] == key(SOURCE.quote(other["symbol"], START))[2]
    assert other["symbol"] in SYMBOLS[1:]
    assert future == quote | {"latestUpdate": quote["latestUpdate"] + 3_600_000}
    assert (rate.status_code, rate.headers["Retry-After"], broken.status_code) == (429, "1", 500)
    assert feed.statuses == {200: 7, 429: 1, 500: 1}


def test_what_should_be_json_and_isnt(client: httpx.Client) -> None:
    with feed_of() as feed:
        feed.fail("AAPL", *["wrong_json"] * 20)
        answers = [ask(client, feed) for _ in range(20)]
        whole = ask(client, feed).text
    assert {answer.status_code for answer in answers} == {200}
    pages = [answer for answer in answers if answer.text.startswith("<!DOCTYPE html>")]
    halves = [answer for answer in answers if answer not in pages]
    assert len(pages) > 2
    assert {answer.text for answer in halves} == {whole[: len(whole) // 2]}


def test_random_faults_depend_on_seed_symbol_and_count_alone() -> None:
    shares = dict.fromkeys(FAULTS, 0.03)

    def fates(seed: int, threads: int) -> tuple[dict[str, list[str]], Counter[str]]:
        def often(symbol: str) -> list[str]:
            answers = []
            with httpx.Client(trust_env=False) as client:
                for _ in range(150):
                    try:
                        answers.append(ask(client, feed, symbol).text)
                    except httpx.TransportError as error:
                        answers.append(type(error).__name__)
            return answers

        with feed_of(seed=seed, faults=shares, slow_seconds=0.0) as feed, ThreadPoolExecutor(threads) as pool:
            return dict(zip(SYMBOLS, pool.map(often, SYMBOLS), strict=True)), feed.errors

    alone, together, other = fates(1, 1), fates(1, 3), fates(2, 1)
    assert alone == together
    assert alone[0] != other[0]
    assert len({tuple(text == "null" for text in answers) for answers in alone[0].values()}) == len(SYMBOLS)
    assert set(alone[1]) == set(FAULTS)
    assert 0.3 < alone[1].total() / 450 < 0.55


def test_what_cant_be_asked_for() -> None:
    with pytest.raises(ValueError, match="No fault is named flood"):
        feed_of(faults={"flood": 0.1})
    with pytest.raises(ValueError, match="at most 1 in all"):
        feed_of(faults={"late": 0.6, "reset": 0.6})
    with pytest.raises(ValueError, match="no time zone"):
        feed_of(start=datetime(2021, 1, 1))
    feed = feed_of()
    with pytest.raises(ValueError, match="doesn't quote NONE"):
        feed.fail("NONE", "late")
    with pytest.raises(RuntimeError, match="isn't running"):
        _ = feed.url


def test_as_a_process_of_its_own(client: httpx.Client) -> None:
    options = ["--symbols", "40", "--seed", "3", "--speed", "20", "--start", START.isoformat()]
    command = [sys.executable, "-m", "lakehouse.simulators.quote_feed", *options, "--token", "T", "--faults"]
    with subprocess.Popen([*command, '{"null_quote": 1.0}'], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert client.get(f"{url}/stock/ATLN1/quote?token=T").text == "null"
            assert client.get(f"{url}/stock/ATLN1/quote").status_code == 401
            assert client.get(f"{url}/_served").text == ""
            stats = client.get(f"{url}/_stats").json()
            assert stats["errors"] == {"null_quote": 1, "no_token": 1}
            assert datetime.fromisoformat(stats["now"]) > START
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0
