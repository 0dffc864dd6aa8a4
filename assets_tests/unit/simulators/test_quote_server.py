"""The simulated quote vendor's HTTP: connections kept, cut and stalled, and which answers count as handed over."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import Quote, RandomQuotes

START = datetime(2021, 3, 1, 15, tzinfo=UTC)
SOURCE = RandomQuotes(("AAPL", "BRK.B", "TSLA"), seed=3)


def feed_of(slow_seconds: float = 3.0) -> QuoteFeed:
    """A feed whose time stands still."""
    return QuoteFeed(SOURCE, start=START, speed=0.0, slow_seconds=slow_seconds)


def connect(feed: QuoteFeed) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(feed.url.rsplit(":", 1)[1])), timeout=5)


def talk(feed: QuoteFeed, *parts: bytes, pause: float = 0.0) -> bytes:
    """What a connection gets for these bytes until the feed closes it."""
    with connect(feed) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def request(symbol: str = "AAPL", *fields: str) -> bytes:
    return "\r\n".join([f"GET /stock/{symbol}/quote HTTP/1.1", "Host: x", *fields, "", ""]).encode()


LAST = "Connection: close"


def test_no_answer_is_no_quote_served() -> None:
    with feed_of(slow_seconds=0.2) as feed:
        feed.fail("AAPL", "timeout", "reset")
        began = time.monotonic()
        assert talk(feed, request() + request(), request(), pause=0.05) == b""
        assert 0.2 <= time.monotonic() - began < 3
        with pytest.raises(ConnectionResetError):
            talk(feed, request())
        assert feed.served == {}
        assert (feed.requests, feed.statuses) == ({"AAPL": 2}, {})
        assert talk(feed, request("AAPL", LAST)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(feed.served) == 1


def test_the_end_of_the_feed_doesnt_wait_for_an_answer_that_never_comes() -> None:
    began = time.monotonic()
    with feed_of(slow_seconds=60.0) as feed:
        feed.fail("AAPL", "timeout")
        with connect(feed) as waiting, connect(feed) as idle:
            waiting.sendall(request("AAPL"))
            idle.sendall(request("TSLA"))
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")
            feed.__exit__(None, None, None)
            assert waiting.recv(1) == idle.recv(1) == b""
        feed.__enter__()
    assert time.monotonic() - began < 5


def test_requests_in_pieces_and_several_at_once() -> None:
    with feed_of() as feed:
        asked = b"\r\n" + request("AAPL") + request("TSLA") + request("BRK.B", "connection: Close")
        at_once = talk(feed, asked)
        in_pieces = talk(feed, *(asked[n : n + 7] for n in range(0, len(asked), 7)), pause=0.001)
    assert at_once == in_pieces
    rest, symbols = at_once, []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        symbols.append(json.loads(rest[:length])["symbol"])
        rest = rest[length:]
    assert symbols == ["AAPL", "TSLA", "BRK.B"]
    assert head.endswith(b"Connection: close")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /stock/AAPL/quote HTTP/1.1\r\n\r\n", 400),
        (request("AAPL", "Content-Length: 3"), 400),
        (request("AAPL", "Transfer-Encoding: chunked"), 400),
        (request("AAPL", "Bad Name : x"), 400),
        (request().replace(b"GET", b"POST"), 405),
        (request().replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (b"GET /" + b"x" * 20_000, 431),
    ],
)
def test_requests_that_arent_understood(sent: bytes, status: int) -> None:
    with feed_of() as feed:
        answer = talk(feed, sent)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in answer
        assert feed.requests == {}


class NewEachTime:
    """A source that never says the same twice."""

    symbols = ("AAPL",)

    def __init__(self) -> None:
        self.told = 0

    def quote(self, symbol: str, now: datetime) -> Quote:
        self.told += 1
        return Quote(symbol, float(self.told), now + timedelta(milliseconds=self.told), 1, 1.0, 2.0)


def ask_until_it_blocks(connection: socket.socket) -> int:
    """How many whole requests a connection took whose client reads nothing."""
    connection.settimeout(0.3)
    one = request("AAPL", f"Padding: {'x' * 1000}")  # so that few requests fill the buffers on their way
    sent, block = 0, one * 10
    with suppress(TimeoutError):
        while True:
            sent += connection.send(block[sent % len(block) :])
    return sent // len(one)


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """All that comes until an answer with `wanted` in it is whole."""
    connection.settimeout(10)
    chunks = [b""]
    while wanted not in (tail := b"".join(chunks[-2:])) or not tail.endswith(b"}"):
        chunks.append(connection.recv(1 << 20))
    return b"".join(chunks)


@pytest.mark.slow
def test_an_answer_is_served_once_the_socket_has_taken_it() -> None:
    """Clients ask for more than the buffers hold: one then reads all of it, the other goes without reading."""
    source = NewEachTime()
    with QuoteFeed(source, start=START, speed=0.0) as feed:
        with connect(feed) as connection:
            count = ask_until_it_blocks(connection)
            assert 0 < len(feed.served) < count
            got = read_until(connection, b'"latestPrice":%d.0,' % count)
        talk(feed, request("AAPL", LAST))  # by now the feed has noticed
        assert list(feed.served.values()) == [float(n) for n in range(1, count + 2)]
        with connect(feed) as connection:
            ask_until_it_blocks(connection)
        talk(feed, request("AAPL", LAST))
        assert count + 2 < len(feed.served) < source.told == feed.statuses[200]
    bodies = [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1")[1:]]
    assert [json.loads(body)["latestPrice"] for body in bodies] == list(range(1, count + 1))


def test_an_answer_to_who_is_gone_isnt_served() -> None:
    asked, gone = threading.Event(), threading.Event()

    class Slow(NewEachTime):
        def quote(self, symbol: str, now: datetime) -> Quote:
            asked.set()
            assert gone.wait(5)
            return super().quote(symbol, now)

    with QuoteFeed(Slow(), start=START, speed=0.0) as feed:
        connection = connect(feed)
        connection.sendall(request())
        assert asked.wait(5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        gone.set()
        talk(feed, request("AAPL", LAST))
        assert list(feed.served.values()) == [2.0]


def test_who_has_a_quote_finds_it_served() -> None:
    with QuoteFeed(NewEachTime(), start=START, speed=0.0) as feed, connect(feed) as connection:
        for price in range(1, 1000):
            connection.sendall(request())
            connection.recv(65536)
            assert len(feed.served) == price


def test_many_requests_on_one_connection() -> None:
    with feed_of() as feed, connect(feed) as connection:
        began = time.monotonic()
        for _ in range(1500):
            connection.sendall(request())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 10  # a fifth of a second on an idle machine; a delayed ACK each would be 60
        assert feed.statuses == {200: 1500}
