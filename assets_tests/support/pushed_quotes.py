"""What several test files ask of a feed that is pushed: messages, the broker's own count of them, and what is stored.

What a correct lake holds is said by the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import pytest

from assets_tests.support.quote_pusher import Pushed
from assets_tests.support.servers.nats import NatsServer
from lakehouse.api import Lake
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.nats import consumer as broker_consumer
from lakehouse.settings import settings

STREAM, DURABLE = "quotes", "lakehouse"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Told = dict[tuple[str, datetime], float]


def feed_pushed_by(url: str, patch: pytest.MonkeyPatch) -> Feed:
    """The feed of the YAML; in this process the settings name this broker."""
    patch.setenv("LAKEHOUSE_IEX_NATS_URL", url)
    settings.cache_clear()
    return feed_named("iex")


def quick_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not acknowledged comes again after a second, not after a minute."""
    monkeypatch.setattr(broker_consumer, "ACK_WAIT_S", 1.0)


def quote_text(symbol: str = "AAPL", price: float = 1.5, second: int = 0) -> bytes:
    return json.dumps(
        {"symbol": symbol, "latestPrice": price, "latestUpdate": 1_600_000_000_000 + second * 1000}
    ).encode()


async def publish(server: NatsServer, *payloads: bytes) -> None:
    """As a stranger would push them; makes the stream."""
    client = await nats.connect(server.url)
    context = client.jetstream()
    await context.add_stream(name=STREAM, subjects=["quotes.>"])
    for payload in payloads:
        await context.publish("quotes.X", payload)
    await client.close()


async def unsettled(server: NatsServer) -> tuple[int | None, int | None]:
    """How many messages the broker waits to be acknowledged, and how many it has not delivered."""
    client = await nats.connect(server.url)
    info = await client.jsm().consumer_info(STREAM, DURABLE)
    await client.close()
    return info.num_ack_pending, info.num_pending


def stored() -> Told:
    """What the lake holds; each quote once, or this fails."""
    rows = Lake.open().table("iex/quotes").to_polars().select("symbol", "event_time", "latest_price").rows()
    found = {(symbol, event_time): price for symbol, event_time, price in rows}
    assert len(found) == len(rows)
    return found


def true_quotes(record: Iterable[Pushed]) -> Told:
    return {
        (pushed.symbol, EPOCH + timedelta(milliseconds=pushed.update)): pushed.price
        for pushed in record
        if pushed.fault is None
    }


def texts(heard: Iterable[Any]) -> list[str]:
    return [item.text for item in heard]
