"""A quote vendor's REST API on loopback, in the format of IEX: polled symbol by symbol, with its failures on demand. On
other paths it answers as Coinbase, Binance and Finnhub do (see `quote_shapes`), without failures.

Which answer a request gets, and what was served: what there is to say belongs in `quote_source`, how it is worded in
`quote_answers`, how it is sent in `quote_server`. As a process of its own: `python -m lakehouse.simulators.quote_feed`.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from types import TracebackType
from urllib.parse import parse_qs, unquote

from lakehouse.simulators.quote_answers import (
    NO_TOKEN,
    NOT_FOUND,
    UNKNOWN_SYMBOL,
    WRONG_TOKEN,
    faulty,
    sound,
    too_many_requests,
)
from lakehouse.simulators.quote_faults import TRUE_QUOTES, Fault, FaultPlan
from lakehouse.simulators.quote_server import Answer, QuoteServer
from lakehouse.simulators.quote_shapes import asked_in
from lakehouse.simulators.quote_source import Quote, QuoteSource, RandomQuotes, milliseconds

LATE_SECONDS = (20.0, 100.0)
_MILLISECOND = timedelta(milliseconds=1)


class QuoteFeed:
    """A server of `GET <url>/stock/<symbol>/quote?token=...` while its context is open.

    `GET <url>/_served` and `<url>/_stats` tell its records to other processes: they want no token and aren't counted.

    Args:
        source: what it has to tell.
        token: the only token that it takes; None if it wants none.
        start: feed time on entering, timezone-aware; None for the real time.
        speed: feed seconds in a real second; 0 if feed time moves by `advance` alone.
        faults, seed: see `quote_faults.FaultPlan`.
        port: where to listen; 0 for a free port.
        requests_per_second: more of them are refused with 429, after a burst of one second's worth.
        slow_seconds: real seconds until a connection closes whose answer is a timeout.

    Raises:
        ValueError: for faults that `FaultPlan` refuses, a negative speed, a rate that isn't positive, or a start
            without a time zone.
        OSError: on entering, if the port can't be had.
    """

    def __init__(
        self,
        source: QuoteSource,
        *,
        token: str | None = None,
        start: datetime | None = None,
        speed: float = 1.0,
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        port: int = 0,
        requests_per_second: float | None = None,
        slow_seconds: float = 3.0,
    ) -> None:
        if speed < 0 or (requests_per_second is not None and requests_per_second <= 0):
            raise ValueError(
                f"Feed time can't run at a speed of {speed}, or {requests_per_second} requests a second be allowed: "
                "give a speed of at least 0, and a rate above 0 or None."
            )
        if start is not None and start.tzinfo is None:
            raise ValueError(f"The start {start.isoformat()} has no time zone: give it in UTC.")
        self._source = source
        self._token = token
        self._start, self._speed = start, speed
        self._origin: tuple[datetime, float] | None = None
        self._advanced = timedelta(0)
        self._faults = FaultPlan(faults or {}, seed)
        self._port = port
        self._rate = requests_per_second
        self._slow_seconds = slow_seconds
        self._allowance = (max(requests_per_second or 0.0, 1.0), time.monotonic())
        self._previous: dict[str, Quote] = {}
        self._served: dict[tuple[str, datetime], float] = {}
        self._requests: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._errors: Counter[str] = Counter()
        self._server: QuoteServer | None = None
        # Counters are the server's thread's; a request is counted before it is answered.
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address, without a path.

        Raises:
            RuntimeError: before its context was entered.
        """
        if self._server is None:
            raise RuntimeError("The quote feed isn't running: ask for its url within its `with` block.")
        return self._server.url

    def now(self) -> datetime:
        """Feed time in UTC. It doesn't move before the context is entered."""
        if self._origin is None:
            return (self._start or datetime.now(UTC)).astimezone(UTC) + self._advanced
        start, entered = self._origin
        return start + timedelta(seconds=self._speed * (time.monotonic() - entered)) + self._advanced

    def advance(self, seconds: float) -> None:
        """Let feed time jump ahead by `seconds`.

        Raises:
            ValueError: if `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"Feed time can't go back by {-seconds} s.")
        self._advanced += timedelta(seconds=seconds)

    @property
    def served(self) -> dict[tuple[str, datetime], float]:
        """The latest price of every valid quote that was handed whole to a socket, by symbol and event time.

        A client that has a quote finds it here. The reverse doesn't hold for a client that gave up or was killed while
        the quote was on its way.
        """
        if self._server is None:
            return {}
        with self._server.lock:
            return self._served.copy()

    @property
    def requests(self) -> Counter[str]:
        """Requests by symbol, unknown ones and those without a token too."""
        with self._lock:
            return self._requests.copy()

    @property
    def statuses(self) -> Counter[int]:
        """Answers by HTTP status; a timeout or a reset has none."""
        with self._lock:
            return self._statuses.copy()

    @property
    def errors(self) -> Counter[str]:
        """Faults met by kind, and "rate_limit", "unknown_symbol", "no_token" and "wrong_token"."""
        with self._lock:
            return self._errors.copy()

    def fail(self, symbol: str, *manners: str) -> None:
        """Let the next requests for `symbol` meet these faults, one each, in order.

        `repeated` and `out_of_order` need a previous answer, `late` an earlier quote: where there is none, the answer
        is sound.

        Raises:
            ValueError: if there is no such fault or symbol.
        """
        if symbol not in self._source.symbols:
            raise ValueError(f"The feed doesn't quote {symbol}: no request for it can meet a fault.")
        with self._lock:
            self._faults.order(symbol, manners)

    def _answer(self, target: str) -> Answer:
        path, _, query = target.partition("?")
        match path.split("/"):
            case ["", "stock", word, "quote"]:
                symbol = unquote(word)
            case ["", "_served"]:
                return Answer(self._served_lines(), content_type="application/x-ndjson")
            case ["", "_stats"]:
                return Answer(json.dumps(self._statistics()).encode())
            case _:
                return self._shaped_answer(path, query)
        with self._lock:
            self._requests[symbol] += 1
            answer, error = self._quote_answer(symbol, query)
            if error:
                self._errors[error] += 1
            if answer.manner == "whole":
                self._statuses[answer.status] += 1
        return answer

    def _shaped_answer(self, path: str, query: str) -> Answer:
        """The answer to a request in another vendor's words."""
        parameters = {name: values[0] for name, values in parse_qs(query).items()}
        asked = asked_in(path, parameters)
        if asked is None:
            return NOT_FOUND
        with self._lock:
            self._requests.update(asked.symbols)
            if asked.shape.needs_token and self._token is not None and parameters.get("token") != self._token:
                return WRONG_TOKEN if "token" in parameters else NO_TOKEN
            now = self.now()
            quotes = [quote for symbol in asked.symbols if (quote := self._source.quote(symbol, now))]
            if len(quotes) < len(asked.symbols):
                return UNKNOWN_SYMBOL
            told = tuple(asked.shape.rounded(quote) for quote in quotes)
            self._statuses[200] += 1
        return Answer(asked.shape.body(told), note=told)

    def _quote_answer(self, symbol: str, query: str) -> tuple[Answer, str]:
        """The answer to a request for a quote, and what was wrong with it: a fault's name, a refusal's, or nothing."""
        if self._token is not None:
            given = parse_qs(query).get("token")
            if given != [self._token]:
                return (WRONG_TOKEN, "wrong_token") if given else (NO_TOKEN, "no_token")
        if self._rate is not None and (wait := self._wait(self._rate)):
            return too_many_requests(wait), "rate_limit"
        now = self.now()
        quote = self._source.quote(symbol, now)
        if quote is None:
            return UNKNOWN_SYMBOL, "unknown_symbol"
        fault, chance = self._faults.next(symbol, self._requests[symbol])
        if fault == "wrong_symbol":
            quote = self._other(quote, now, chance)
        if fault and fault not in TRUE_QUOTES:
            return faulty(fault, quote, chance), fault
        if fault:
            other = self._true_quote(fault, symbol, now, chance)
            quote, fault = (other, fault) if other else (quote, None)
        self._previous[symbol] = quote
        return sound(quote)._replace(note=quote), fault or ""

    def _true_quote(self, fault: Fault, symbol: str, now: datetime, chance: Random) -> Quote | None:
        if fault == "late":
            return self._source.quote(symbol, now - timedelta(seconds=chance.uniform(*LATE_SECONDS)))
        previous = self._previous.get(symbol)
        if fault == "repeated" or previous is None:
            return previous
        return self._source.quote(symbol, previous.event_time - _MILLISECOND)

    def _other(self, quote: Quote, now: datetime, chance: Random) -> Quote:
        symbols = self._source.symbols
        if len(symbols) > 1:
            other = symbols[(symbols.index(quote.symbol) + chance.randrange(1, len(symbols))) % len(symbols)]
            if found := self._source.quote(other, now):
                return found
        return replace(quote, symbol=f"NOT-{quote.symbol}")

    def _wait(self, rate: float) -> int:
        """Whole seconds until the next request is allowed; 0 if this one is."""
        allowance, before = self._allowance
        moment = time.monotonic()
        allowance = min(allowance + (moment - before) * rate, max(rate, 1.0))
        refused = allowance < 1
        self._allowance = (allowance if refused else allowance - 1, moment)
        return max(math.ceil((1 - allowance) / rate), 1) if refused else 0

    def _handed(self, told: Quote | tuple[Quote, ...]) -> None:
        for quote in told if isinstance(told, tuple) else (told,):
            self._served[quote.symbol, quote.event_time] = quote.latest_price

    def _served_lines(self) -> bytes:
        # By the server's thread, which alone writes the record.
        lines = (
            json.dumps({"symbol": symbol, "latestUpdate": milliseconds(moment), "latestPrice": price}) + "\n"
            for (symbol, moment), price in self._served.items()
        )
        return "".join(lines).encode()

    def _statistics(self) -> dict[str, object]:
        return {
            "now": self.now().isoformat(),
            "served": len(self._served),
            "requests": self.requests,
            "statuses": self.statuses,
            "errors": self.errors,
        }

    def __enter__(self) -> QuoteFeed:
        self._server = QuoteServer(self._answer, self._handed, self.now, self._slow_seconds, self._port)
        self._origin = ((self._start or datetime.now(UTC)).astimezone(UTC), time.monotonic())
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()


def _main() -> None:
    from lakehouse.simulators.us_trading import symbol_names

    parser = argparse.ArgumentParser(description="Serve random quotes until SIGTERM; the first line says where.")
    parser.add_argument("--symbols", default="10", help="how many invented symbols, or their names with commas")
    parser.add_argument("--seed", type=int, default=0, help="of the quotes and of the faults")
    parser.add_argument("--start", type=datetime.fromisoformat, help="feed time at the start (ISO 8601, with a zone)")
    parser.add_argument("--speed", type=float, default=1.0, help="feed seconds in a real second")
    parser.add_argument("--faults", type=json.loads, help='shares as JSON, like {"http_500": 0.01}')
    parser.add_argument("--token")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    symbols = symbol_names(int(given.symbols)) if given.symbols.isdecimal() else tuple(given.symbols.split(","))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    options = {name: getattr(given, name) for name in ("token", "start", "speed", "faults", "seed", "port")}
    with QuoteFeed(RandomQuotes(symbols, seed=given.seed), **options) as feed:
        print(feed.url, flush=True)
        stopped.wait()


if __name__ == "__main__":
    _main()
