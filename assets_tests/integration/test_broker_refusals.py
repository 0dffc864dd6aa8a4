"""What a listener says where it can't listen: the broker, the cause and the mend, and never a password."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import nats
import pytest

from assets_tests.support.pushed_quotes import DURABLE, STREAM, feed_pushed_by, publish, quote_text
from assets_tests.support.servers.nats import NatsServer
from assets_tests.support.servers.process import MissingBinary, free_port
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.nats import consumer as broker_consumer
from lakehouse.domains.market.quotes.nats.address import BrokerAddress
from lakehouse.domains.market.quotes.nats.subscriber import Listener
from lakehouse.errors import SourceError

PASSWORD = "p@ss/w0rd"


@pytest.fixture
def feed(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """The feed of the YAML, pushed by a broker of the test's own."""
    return feed_pushed_by(nats_server.url, monkeypatch)


async def enter(feed: Feed) -> None:
    async with Listener(feed):
        pass


def test_a_missing_stream_is_said_with_its_mend(feed: Feed, nats_server: NatsServer) -> None:
    with pytest.raises(SourceError) as raised:
        asyncio.run(enter(feed))

    for words in (f"no stream {STREAM}", nats_server.url, "nats stream add"):
        assert words in str(raised.value)


def test_a_broker_that_is_not_there_is_said_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    feed = feed_pushed_by(url, monkeypatch)
    begun = time.monotonic()

    with pytest.raises(SourceError, match=f"(?s){url}.*LAKEHOUSE_IEX_NATS_URL"):
        asyncio.run(enter(feed))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "url", ["", "http://127.0.0.1:4222", "nats://", f"user:{PASSWORD}@host", f"nats://u:{PASSWORD}@h:x"]
)
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    feed = feed_pushed_by(url or " ", monkeypatch)

    with pytest.raises(SourceError, match="LAKEHOUSE_IEX_NATS_URL") as raised:
        Listener(feed)
    assert "w0rd" not in repr(raised.value)


@pytest.mark.parametrize(
    ("url", "user", "password", "token"),
    [
        ("nats://h:1", None, None, None),
        ("tls://reader:p%40ss%2Fw0rd@h:1", "reader", PASSWORD, None),
        (f"nats://reader:{PASSWORD}@h:1", "reader", PASSWORD, None),
        ("nats://p%40ss%2Fw0rd@h:1", None, None, PASSWORD),
    ],
)
def test_a_login_is_taken_out_of_the_address(
    url: str, user: str | None, password: str | None, token: str | None
) -> None:
    address = BrokerAddress(url, "VARIABLE")

    assert (address.user, address.password, address.token) == (user, password, token)
    assert address.url in ("nats://h:1", "tls://h:1")
    if password or token:
        assert address.hidden(f"refused: {PASSWORD}, p%40ss%2Fw0rd") == "refused: ***, ***"


def test_a_feed_without_a_broker_is_refused(feed: Feed) -> None:
    with pytest.raises(SourceError, match=r"iex has no broker.*defs\.yaml"):
        Listener(feed.changed(broker=None))


def test_a_password_gets_in_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer("--user", "reader", "--pass", PASSWORD) as server:
        place = server.url.removeprefix("nats://")

        def log_in(password: str) -> Listener:
            return Listener(feed_pushed_by(f"nats://reader:{password}@{place}", monkeypatch))

        async def outage(listener: Listener) -> str | None:
            async with listener:
                server.kill()
                await listener.hear(0.3)
                return listener.trouble

        async def with_stream() -> None:
            client = await nats.connect(server.url, user="reader", password=PASSWORD)
            await client.jetstream().add_stream(name=STREAM, subjects=["quotes.>"])
            await client.close()

        # The server says why and hangs up; on a busy machine the client may see only the latter.
        with pytest.raises(SourceError, match=r"Authorization Violation|reset by peer") as wrong:
            asyncio.run(log_in("wr0ng-w0rd").__aenter__())
        asyncio.run(with_stream())
        listener = log_in("p%40ss%2Fw0rd")
        trouble = asyncio.run(outage(listener))

    assert trouble is not None
    assert server.url in trouble
    for text in (str(wrong.value), trouble, caplog.text, listener.url, repr(listener.feed)):
        assert "w0rd" not in text


def test_without_jetstream_the_mend_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configuration = tmp_path / "nats.conf"
    configuration.write_text("accounts { A { users = [{ user: a, password: b }] } }\n")
    with NatsServer("-c", str(configuration)) as server:
        feed = feed_pushed_by(server.url.replace("//", "//a:b@"), monkeypatch)
        with pytest.raises(SourceError, match="JetStream"):
            asyncio.run(enter(feed))


def test_a_consumer_that_differs_is_changed_or_refused(
    feed: Feed, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await publish(nats_server, quote_text())
        await enter(feed)
        monkeypatch.setattr(broker_consumer, "ACK_WAIT_S", 45.0)
        await enter(feed)
        client = await nats.connect(nats_server.url)
        manager = client.jsm()
        made = (await manager.consumer_info(STREAM, DURABLE)).config
        assert (made.ack_wait, made.filter_subject, made.max_deliver) == (45.0, "quotes.>", -1)
        assert (made.ack_policy, made.deliver_policy) == ("explicit", "all")
        for other in ({"deliver_subject": "elsewhere"}, {"deliver_policy": "new"}, {"ack_policy": "none"}):
            await manager.delete_consumer(STREAM, DURABLE)
            await manager.add_consumer(STREAM, durable_name=DURABLE, filter_subject="quotes.>", **other)
            with pytest.raises(SourceError, match=f"refuses the consumer {DURABLE} of {STREAM}.*durable"):
                await enter(feed)
        await client.close()

    asyncio.run(scenario())


def test_a_missing_server_names_its_debian_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingBinary, match=r"nats-server.*Debian package: nats-server"), NatsServer():
        pass


def test_nothing_of_nats_is_imported_before_it_is_needed() -> None:
    modules = "lakehouse.domains.market.quotes.nats.subscriber, assets_tests.support.quote_pusher"
    code = f"import sys, {modules}; print('nats' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "False"
