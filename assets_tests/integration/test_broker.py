"""A feed that is pushed: what the broker has acknowledged is stored once, whoever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import polars as pl
import pytest

from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.processes import WORKERS
from assets_tests.support.pushed_quotes import (
    EPOCH,
    STREAM,
    feed_pushed_by,
    publish,
    quick_again,
    quote_text,
    stored,
    texts,
    true_quotes,
    unsettled,
)
from assets_tests.support.quote_pusher import Pushed, QuotePusher
from assets_tests.support.servers.nats import NatsServer
from lakehouse.api import Lake
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.nats import consumer as broker_consumer
from lakehouse.domains.market.quotes.nats.subscriber import Listener
from lakehouse.domains.market.quotes.store import QuoteLog
from lakehouse.errors import SourceError
from lakehouse.settings import settings
from lakehouse.simulators.quote_source import RandomQuotes


@pytest.fixture
def feed(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """The feed of the YAML, pushed by a broker of the test's own."""
    return feed_pushed_by(nats_server.url, monkeypatch)


def consume(home: str, url: str, listening: Any, die_before_done: int) -> None:
    """Hears and stores until it is killed: from outside, or by itself between a commit and its acknowledgement."""
    os.environ.update(LAKEHOUSE_HOME=home, LAKEHOUSE_IEX_NATS_URL=url)
    settings.cache_clear()
    broker_consumer.ACK_WAIT_S = 1.0

    async def listen() -> None:
        feed = feed_named("iex")
        log = QuoteLog(Lake.open(), feed)
        commits = 0
        while True:
            try:
                async with Listener(feed) as listener:
                    listening.set()
                    while True:
                        inbox = await listener.hear(0.2, 500)
                        if inbox.heard:
                            log.store(inbox)
                            commits += 1
                            if commits == die_before_done:
                                os.kill(os.getpid(), signal.SIGKILL)
                        await listener.done()
            except SourceError:
                await asyncio.sleep(0.1)  # the broker is away as this begins

    asyncio.run(listen())


def start_consumer(server: NatsServer, die_before_done: int = 0) -> Any:
    """A consumer in a process of its own, from the moment at which it listens."""
    listening = WORKERS.Event()
    home = os.environ["LAKEHOUSE_HOME"]
    process = WORKERS.Process(target=consume, args=(home, server.url, listening, die_before_done), daemon=True)
    process.start()
    assert listening.wait(PATIENCE_S)
    return process


async def store_all(feed: Feed, idle: float = 1.6) -> tuple[int, int, int]:
    """Hears, stores and acknowledges until nothing comes for longer than the broker waits for acknowledgements; how
    many were new, repeated and refused.
    """
    log, counts = QuoteLog(Lake.open(), feed), (0, 0, 0)
    async with Listener(feed) as listener:
        silent_since = time.monotonic()
        while time.monotonic() < silent_since + idle:
            inbox = await listener.hear(0.3)
            if inbox.heard:
                silent_since = time.monotonic()
                done = log.store(inbox)
                counts = (
                    counts[0] + done.quotes.height,
                    counts[1] + done.repeated,
                    counts[2] + done.refused,
                )
                await listener.done()
        assert listener.trouble is None
    return counts


def test_a_message_is_heard_as_it_was_said(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> None:
        before = datetime.now(UTC)
        await publish(nats_server, quote_text(second=1), quote_text("BRK.B", second=2))
        async with Listener(feed) as listener:
            inbox = await listener.hear(0.3)
        first, second = inbox.heard
        assert (first.asked, first.text) == (None, quote_text(second=1).decode())
        assert second.document == json.loads(quote_text("BRK.B", second=2))
        assert before - timedelta(milliseconds=1) < first.published_at <= second.published_at <= datetime.now(UTC)
        assert inbox.errors == []

    asyncio.run(scenario())


def test_hearing_ends_in_time_or_with_enough(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> None:
        sent = [quote_text(second=number) for number in range(25)]
        await publish(nats_server, *sent)
        async with Listener(feed) as listener:
            begun = time.monotonic()
            first = await listener.hear(20, 10)
            second = await listener.hear(20, 10)
            assert time.monotonic() - begun < 5
            begun = time.monotonic()
            third = await listener.hear(0.5, 10)
            assert 0.4 < time.monotonic() - begun < 2
        assert [len(box.heard) for box in (first, second, third)] == [10, 10, 5]
        assert texts(first.heard + second.heard + third.heard) == [text.decode() for text in sent]

    asyncio.run(scenario())


def test_what_is_not_done_comes_again_to_the_next_listener_at_once(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> None:
        await publish(nats_server, *(quote_text(second=number) for number in range(5)))
        async with Listener(feed) as listener:
            done = await listener.hear(5, 2)
            await listener.done()
            assert await unsettled(nats_server) == (0, 3)
            not_done = await listener.hear(0.3)
        async with Listener(feed) as listener:
            again = await listener.hear(0.5)
            await listener.done()
        assert sorted(texts(again.heard)) == sorted(texts(not_done.heard))
        assert len(done.heard) + len(not_done.heard) == 5
        assert await unsettled(nats_server) == (0, 0)

    asyncio.run(scenario())


def test_what_could_not_be_stored_is_given_back_and_heard_again(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> None:
        sent = [quote_text(second=number) for number in range(5)]
        await publish(nats_server, *sent)
        async with Listener(feed) as listener:
            assert len((await listener.hear(5, 2)).heard) == 2
            await listener.give_back()
            await listener.done()
            again = (await listener.hear(5, 5)).heard
            assert sorted(texts(again)) == [text.decode() for text in sent]
            await listener.done()
            assert await unsettled(nats_server) == (0, 0)

    asyncio.run(scenario())


def test_hearing_that_is_cancelled_loses_nothing(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> None:
        await publish(nats_server, quote_text())
        async with Listener(feed) as listener:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.hear(20), 0.4)
            await listener.done()
            assert await unsettled(nats_server) == (1, 0)
            assert len((await listener.hear(0.2)).heard) == 1
            await listener.done()
            assert await unsettled(nats_server) == (0, 0)

    asyncio.run(scenario())


def test_killed_between_commit_and_acknowledgement_nothing_is_stored_twice(
    feed: Feed, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_again(monkeypatch)
    sent = [quote_text(f"S{number % 7}", 1 + number, number) for number in range(1200)]
    expected = {
        (f"S{number % 7}", EPOCH + timedelta(seconds=1_600_000_000 + number)): 1 + number for number in range(1200)
    }
    asyncio.run(publish(nats_server, *sent))

    process = start_consumer(nats_server, die_before_done=2)
    process.join(30)

    assert process.exitcode == -signal.SIGKILL
    assert len(stored()) == 1000
    assert asyncio.run(unsettled(nats_server))[0] == 500  # of the second commit
    assert asyncio.run(store_all(feed)) == (200, 500, 0)
    assert stored() == expected
    assert asyncio.run(unsettled(nats_server)) == (0, 0)


def test_everything_acknowledged_is_stored_once_with_kills_on_both_sides(
    feed: Feed, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick_again(monkeypatch)
    faults = {"late": 0.03, "out_of_order": 0.03, "repeated": 0.05, "null_price": 0.02, "wrong_json": 0.02}
    command = [sys.executable, "-m", "assets_tests.support.quote_pusher", "--url", nats_server.url, "--symbols", "30"]
    command += ["--seconds", "7", "--every", "0.05", "--update-every", "0.2", "--faults", json.dumps(faults)]
    chance, record = random.Random(5), tmp_path / "record.jsonl"
    with record.open("w") as lines, subprocess.Popen(command, stdout=lines) as pusher:
        turn = 0
        # On a slow machine none might live until its first commit: each lives longer than the ones before.
        while pusher.poll() is None or turn < 2 or Lake.open().table("iex/quotes").snapshot().version is None:
            consumer = start_consumer(nats_server)
            time.sleep(chance.uniform(0.1, 1.5) * (1 + turn / 4))
            if turn % 2:
                nats_server.kill()
                time.sleep(chance.uniform(0.0, 0.5))
                nats_server.start()
                time.sleep(chance.uniform(0.0, 0.7))
            consumer.kill()
            consumer.join(10)
            turn += 1
    assert pusher.returncode == 0
    before = len(stored())
    asyncio.run(store_all(feed))

    pushed = [Pushed(**json.loads(line)) for line in record.read_text().splitlines()]
    assert before > 0
    assert len(true_quotes(pushed)) > 500
    assert {message.fault for message in pushed} == {None, "null_price", "wrong_json"}
    assert any(message.duplicate for message in pushed)
    assert stored() == true_quotes(pushed)
    assert asyncio.run(unsettled(nats_server)) == (0, 0)


def test_a_broker_that_is_killed_and_started_again_is_found_again(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> None:
        source = RandomQuotes([f"S{number}" for number in range(20)], seed=2, every_s=1.0)
        now = datetime.now(UTC) - timedelta(minutes=1)
        log = QuoteLog(Lake.open(), feed)
        async with QuotePusher(nats_server.url, source) as pusher, Listener(feed) as listener:
            record = await pusher.push(now)
            log.store(await listener.hear(5, 20))
            nats_server.kill()
            begun = time.monotonic()
            # Committed; the acknowledgements can't be handed in.
            await listener.done()
            assert nats_server.url in (listener.trouble or "")
            assert (await listener.hear(0.5)).heard == []
            assert time.monotonic() - begun < 4
            assert nats_server.url in (listener.trouble or "")
            nats_server.start()
            record += await pusher.push(now + timedelta(seconds=2))
            assert len(true_quotes(record)) == 40
            deadline = time.monotonic() + PATIENCE_S
            # The broker may have forgotten what it had delivered, but not what it had acknowledged.
            while len(stored()) < 40 and time.monotonic() < deadline:
                log.store(await listener.hear(0.5))
            assert listener.trouble is None
            await listener.done()
            assert await unsettled(nats_server) == (0, 0)
            assert stored() == true_quotes(record)

    asyncio.run(scenario())


def test_a_new_stream_of_that_name_is_not_acknowledged_with_the_old_numbers(
    feed: Feed, nats_server: NatsServer
) -> None:
    async def scenario() -> None:
        await publish(nats_server, quote_text("OLD"))
        client = await nats.connect(nats_server.url)
        async with Listener(feed) as listener:
            assert len((await listener.hear(5, 1)).heard) == 1
            await client.jetstream().delete_stream(STREAM)
            for _ in range(2):
                assert (await listener.hear(0.3)).heard == []
            assert f"no stream {STREAM}" in (listener.trouble or "")
            await publish(nats_server, quote_text("NEW"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.hear(20), 0.7)
            await listener.done()
            assert await unsettled(nats_server) == (1, 0)
            assert texts((await listener.hear(5, 1)).heard) == [quote_text("NEW").decode()]
            await listener.done()
            assert await unsettled(nats_server) == (0, 0)
        await client.close()

    asyncio.run(scenario())


def test_garbage_goes_to_the_quarantine_and_does_not_come_again(
    feed: Feed, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_again(monkeypatch)
    garbage = [
        b"",
        b"null",
        b"[1]",
        b'"text"',
        b"\xff\xfe\x00",
        b"{}",
        b"<html>\x00</html>",
        b"[" * 50_000,
        quote_text()[:-5],
        b'{"symbol": NaN}',
        b'{"symbol": "\\ud800", "latestPrice": 1, "latestUpdate": 1600000000000}',
        b'{"symbol": "A", "latestPrice": 1e999, "latestUpdate": 1600000000000}',
        b'{"symbol": "A", "latestPrice": 1, "latestUpdate": ' + b"9" * 5000 + b"}",
        b'{"symbol": ["A"], "latestPrice": {}, "latestUpdate": []}',
    ]
    asyncio.run(publish(nats_server, *garbage, quote_text("GOOD"), *garbage))

    assert asyncio.run(store_all(feed)) == (1, 0, 2 * len(garbage))

    assert list(stored()) == [("GOOD", EPOCH + timedelta(seconds=1_600_000_000))]
    quarantine = Lake.open().table("quarantine").to_polars()
    assert sorted(quarantine["row"]) == sorted(text.decode(errors="replace") for text in garbage)
    assert quarantine.filter(pl.col("reasons").list.len() == 0).is_empty()
    assert asyncio.run(unsettled(nats_server)) == (0, 0)


def test_ten_thousand_messages_are_heard_and_stored_in_seconds(feed: Feed, nats_server: NatsServer) -> None:
    async def scenario() -> float:
        source = RandomQuotes([f"S{number}" for number in range(500)], seed=4, every_s=1.0)
        start = datetime.now(UTC) - timedelta(minutes=2)
        async with QuotePusher(nats_server.url, source) as pusher, Listener(feed) as listener:
            for turn in range(20):
                await pusher.push(start + timedelta(seconds=2 * turn))
            begun = time.monotonic()
            inbox = await listener.hear(10, 10_000)
            assert QuoteLog(Lake.open(), feed).store(inbox).quotes.height == 10_000
            await listener.done()
            taken = time.monotonic() - begun
        assert await unsettled(nats_server) == (0, 0)
        return taken

    assert asyncio.run(scenario()) < 10
