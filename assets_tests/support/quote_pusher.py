"""A quote vendor that pushes: the texts of `quote_feed`, sent to a NATS JetStream stream of its own.

Which message is sent, and what the broker took of them: what there is to say belongs in `quote_source`, how it is
worded in `quote_answers`. As a process of its own: `python -m assets_tests.support.quote_pusher`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from lakehouse.simulators.quote_answers import faulty, sound
from lakehouse.simulators.quote_faults import FAULTS, TRUE_QUOTES, Fault, FaultPlan
from lakehouse.simulators.quote_source import Quote, QuoteSource, RandomQuotes, milliseconds

if TYPE_CHECKING:
    from nats.aio.client import Client

LATE_SECONDS = (20.0, 100.0)
PUSHED_FAULTS = tuple(
    fault for fault in FAULTS if fault not in ("rate", "http_500", "timeout", "reset", "wrong_symbol")
)
_MILLISECOND = timedelta(milliseconds=1)
_UNDER_WAY = 500
_ANSWER_S = 1.0
_PAUSE_S = 0.05


@dataclass(frozen=True)
class Pushed:
    """A message that the broker has acknowledged: from now on it is the broker's to lose.

    Args:
        update: the quote's update time, in milliseconds since 1970 UTC; `price` its price.
        fault: what was wrong with the text; None for a true quote.
        sequence: its number in the stream.
        duplicate: the broker knew its id, and kept nothing.
    """

    symbol: str
    update: int
    price: float
    fault: str | None
    sequence: int
    duplicate: bool


class QuotePusher:
    """Pushes quotes to the stream while its context is open; makes the stream. An asynchronous context manager.

    A quote's message id is its symbol and update time, so that the broker keeps it once within its window of two
    minutes. A message that is not acknowledged is sent again, with its id, for as long as `patience_s`.

    Args:
        url: of the server, `nats://...`.
        source: what it has to tell.
        stream: name of the stream; its subjects are `<subject>.<symbol>`.
        faults, seed: see `quote_faults.FaultPlan`; those of `PUSHED_FAULTS`. `repeated` has its id in half of the
            cases, and otherwise another, with which the broker keeps it twice.
        patience_s: real seconds for which it goes on trying.

    Raises:
        ValueError: for faults that can't be pushed, or that `FaultPlan` refuses.
        OSError: in `patience_s` no broker answered, or a message was not acknowledged.
    """

    def __init__(
        self,
        url: str,
        source: QuoteSource,
        *,
        stream: str = "quotes",
        subject: str = "quotes",
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        patience_s: float = 30.0,
    ) -> None:
        if unfit := sorted(set(faults or {}) - set(PUSHED_FAULTS)):
            raise ValueError(f"{', '.join(unfit)} can't be pushed: take some of {', '.join(PUSHED_FAULTS)}.")
        self._url, self._source = url, source
        self._stream, self._subject = stream, subject
        self._faults = FaultPlan(faults or {}, seed)
        self._patience_s = patience_s
        self._turns: Counter[str] = Counter()
        self._previous: dict[str, Quote] = {}
        self._under_way = asyncio.Semaphore(_UNDER_WAY)
        self._client: Client | None = None

    async def __aenter__(self) -> QuotePusher:
        import nats
        from nats.js.errors import BadRequestError

        try:
            async with asyncio.timeout(self._patience_s):
                self._client = await nats.connect(
                    self._url, error_cb=_unheard, max_reconnect_attempts=-1, reconnect_time_wait=_PAUSE_S
                )
        except TimeoutError:
            raise OSError(f"No broker answers in {self._patience_s:g} s at the address given: start it.") from None
        with suppress(BadRequestError):  # there already, with other settings
            await self._client.jetstream().add_stream(name=self._stream, subjects=[f"{self._subject}.>"])
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def push(self, now: datetime) -> list[Pushed]:
        """A message for each symbol that has a quote at feed time `now` (UTC); what the broker said of them."""
        sent = [self._message(symbol, now) for symbol in self._source.symbols]
        return list(await asyncio.gather(*(self._send(*message) for message in sent if message)))

    def _message(self, symbol: str, now: datetime) -> tuple[Quote, Fault | None, bytes, str] | None:
        """A quote, what is wrong with it, its text, and its id."""
        quote = self._source.quote(symbol, now)
        if quote is None:
            return None
        self._turns[symbol] += 1
        fault, chance = self._faults.next(symbol, self._turns[symbol])
        if fault and fault not in TRUE_QUOTES:
            body = faulty(fault, quote, chance).body
            return quote, fault, body, f"{_identity(quote)}-{fault}"
        identity = ""
        if fault:
            quote = self._true_quote(fault, quote, now, chance)
            if fault == "repeated" and chance.random() < 0.5:
                identity = f"-{self._turns[symbol]}"
        self._previous[symbol] = quote
        return quote, None, sound(quote).body, _identity(quote) + identity

    def _true_quote(self, fault: Fault, quote: Quote, now: datetime, chance: Random) -> Quote:
        previous = self._previous.get(quote.symbol, quote)
        if fault == "repeated":
            return previous
        before = previous.event_time - _MILLISECOND
        if fault == "late":
            before = now - timedelta(seconds=chance.uniform(*LATE_SECONDS))
        return self._source.quote(quote.symbol, before) or quote

    async def _send(self, quote: Quote, fault: Fault | None, body: bytes, identity: str) -> Pushed:
        from nats.errors import Error

        assert self._client is not None
        context = self._client.jetstream()
        deadline = time.monotonic() + self._patience_s
        async with self._under_way:
            while True:
                try:
                    taken = await context.publish(
                        f"{self._subject}.{quote.symbol}", body, _ANSWER_S, headers={"Nats-Msg-Id": identity}
                    )
                    break
                except (Error, OSError) as error:
                    if time.monotonic() > deadline:
                        raise OSError(f"{identity} was not acknowledged in {self._patience_s:g} s: {error}") from error
                    await asyncio.sleep(_PAUSE_S)
        return Pushed(
            quote.symbol,
            milliseconds(quote.event_time),
            quote.latest_price,
            fault,
            taken.seq,
            bool(taken.duplicate),
        )


def _identity(quote: Quote) -> str:
    return f"{quote.symbol}-{milliseconds(quote.event_time)}"


async def _unheard(error: Exception) -> None:
    """A broker that goes away is none of the pusher's business: it sends again."""


async def _push_for(pusher: QuotePusher, seconds: float, every: float) -> None:
    begun = time.monotonic()
    async with pusher:
        turn = 0
        while (due := begun + turn * every) < begun + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for pushed in await pusher.push(datetime.now(UTC)):
                sys.stdout.write(json.dumps(asdict(pushed)) + "\n")
            sys.stdout.flush()
            turn += 1


def _main() -> None:
    from lakehouse.simulators.us_trading import symbol_names

    parser = argparse.ArgumentParser(
        description="Push random quotes; each line of the output is a message that the broker has acknowledged."
    )
    parser.add_argument("--url", required=True, help="the broker, nats://host:port")
    parser.add_argument("--symbols", default="10", help="how many invented symbols, or their names with commas")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two messages of a symbol")
    parser.add_argument("--update-every", type=float, default=7.0, help="mean seconds between two quotes of a symbol")
    parser.add_argument("--stream", default="quotes")
    parser.add_argument("--seed", type=int, default=0, help="of the quotes and of the faults")
    parser.add_argument("--faults", type=json.loads, help='shares as JSON, like {"late": 0.01}')
    given = parser.parse_args()
    symbols = symbol_names(int(given.symbols)) if given.symbols.isdecimal() else tuple(given.symbols.split(","))
    source = RandomQuotes(symbols, seed=given.seed, every_s=given.update_every)
    options = {"stream": given.stream, "faults": given.faults, "seed": given.seed}
    asyncio.run(_push_for(QuotePusher(given.url, source, **options), given.seconds, given.every))


if __name__ == "__main__":
    _main()
