"""The simulated vendor that pushes: what it sends, what it records, and its patience with the broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import nats
import pytest

from assets_tests.support.pushed_quotes import STREAM
from assets_tests.support.quote_pusher import Pushed, QuotePusher
from assets_tests.support.servers.nats import NatsServer
from assets_tests.support.servers.process import free_port
from lakehouse.simulators.quote_source import RandomQuotes

START = datetime(2021, 3, 1, 15, tzinfo=UTC)
SOURCE = RandomQuotes(("AAPL", "BRK.B", "TSLA"), seed=3)
FAULTS = {"late": 0.1, "out_of_order": 0.1, "repeated": 0.2, "null_price": 0.1, "wrong_json": 0.1}


async def messages(url: str) -> list[tuple[str, bytes]]:
    """Subject and payload of everything in the stream, in order."""
    client = await nats.connect(url)
    manager = client.jsm()
    count = (await manager.stream_info(STREAM)).state.messages
    found = [await manager.get_msg(STREAM, sequence) for sequence in range(1, count + 1)]
    await client.close()
    return [(message.subject or "", message.data or b"") for message in found]


async def push(url: str, turns: int, **options: object) -> list[Pushed]:
    async with QuotePusher(url, SOURCE, **options) as pusher:  # type: ignore[arg-type]
        moments = (START + timedelta(seconds=10 * turn) for turn in range(turns))
        return [pushed for moment in moments for pushed in await pusher.push(moment)]


def test_every_new_message_is_in_the_stream_at_its_number(nats_server: NatsServer) -> None:
    record = asyncio.run(push(nats_server.url, 100, faults=FAULTS, seed=5))
    sent = asyncio.run(messages(nats_server.url))

    kept = {pushed.sequence: pushed for pushed in record if not pushed.duplicate}
    assert len(record) == 300
    assert sorted(kept) == list(range(1, len(sent) + 1))
    for number, (subject, payload) in enumerate(sent, 1):
        pushed = kept[number]
        assert subject == f"quotes.{pushed.symbol}"
        if pushed.fault is None:
            told = json.loads(payload)
            assert (told["symbol"], told["latestUpdate"], told["latestPrice"]) == (
                pushed.symbol,
                pushed.update,
                pushed.price,
            )
    true = [(pushed.symbol, pushed.update) for pushed in kept.values() if pushed.fault is None]
    assert len(set(true)) < len(true)  # repeated under another id
    assert any(pushed.duplicate for pushed in record)
    assert {pushed.fault for pushed in record} == {None, "null_price", "wrong_json"}
    by_symbol = [update for symbol, update in true if symbol == "AAPL"]
    assert by_symbol != sorted(by_symbol)


def test_without_faults_a_quote_is_in_the_stream_once(nats_server: NatsServer) -> None:
    expected = {
        (symbol, quote.event_time)
        for symbol in SOURCE.symbols
        for turn in range(30)
        if (quote := SOURCE.quote(symbol, START + timedelta(seconds=10 * turn)))
    }
    asyncio.run(push(nats_server.url, 30))
    asyncio.run(push(nats_server.url, 30))

    assert len(asyncio.run(messages(nats_server.url))) == len(expected)


def test_the_same_seed_sends_the_same(nats_server: NatsServer) -> None:
    async def told() -> list[tuple[str, bytes]]:
        client = await nats.connect(nats_server.url)
        await push(nats_server.url, 20, faults=FAULTS, seed=9)
        sent = await messages(nats_server.url)
        await client.jetstream().delete_stream(STREAM)
        await client.close()
        return sorted(sent)

    assert asyncio.run(told()) == asyncio.run(told())


def test_it_runs_as_a_process_of_its_own(nats_server: NatsServer) -> None:
    command = [sys.executable, "-m", "assets_tests.support.quote_pusher", "--url", nats_server.url]
    command += ["--symbols", "A,B", "--seconds", "0.3", "--every", "0.1", "--update-every", "0.05"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    record = [Pushed(**json.loads(line)) for line in printed.splitlines()]
    assert {pushed.symbol for pushed in record} == {"A", "B"}
    assert len(asyncio.run(messages(nats_server.url))) == sum(not pushed.duplicate for pushed in record)


def test_a_broker_that_stays_away_ends_its_patience() -> None:
    with pytest.raises(OSError, match=r"No broker answers in 0\.3 s"):
        asyncio.run(push(f"nats://127.0.0.1:{free_port()}", 1, patience_s=0.3))


def test_what_can_not_be_pushed_is_refused() -> None:
    with pytest.raises(ValueError, match="http_500, timeout can't be pushed"):
        QuotePusher("nats://127.0.0.1:4222", SOURCE, faults={"timeout": 0.1, "http_500": 0.1})
