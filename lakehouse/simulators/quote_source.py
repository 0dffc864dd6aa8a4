"""What a simulated quote vendor knows at a moment: an invented random walk, or quotes played again.

How a quote is worded belongs in `quote_answers`, who asks for it and what goes wrong in `quote_feed`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, Protocol

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY_MS = 86_400_000
_CLOSE_BEFORE_MIDNIGHT_MS = 4 * 3_600_000  # 20:00 UTC, when New York's session ends in summer
_UPDATES = 64  # of one block of the walk
_KEPT_BLOCKS = 2  # the present one, and its neighbour for late quotes


@dataclass(frozen=True)
class Quote:
    """What a vendor says of a symbol. Prices in dollars, sizes and the day's volume in shares.

    `event_time` is in UTC with whole milliseconds. `previous_close` is None where the vendor doesn't know it.
    """

    symbol: str
    latest_price: float
    event_time: datetime
    volume: int
    bid: float
    ask: float
    bid_size: int = 100
    ask_size: int = 100
    previous_close: float | None = None


class QuoteSource(Protocol):
    """What a vendor has to say."""

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that it quotes."""

    def quote(self, symbol: str, now: datetime) -> Quote | None:
        """The newest quote at feed time `now` (UTC), or None for an unknown symbol or before its first quote."""


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 UTC of a timezone-aware moment, cut to whole ones."""
    return (moment - EPOCH) // _MILLISECOND


class ReplayedQuotes:
    """These quotes by symbol, in the order of their event times; of several at one time the last.

    Raises:
        ValueError: if a quote has another symbol than its key, or a time without a zone or finer than a millisecond.
    """

    def __init__(self, quotes: Mapping[str, Sequence[Quote]]) -> None:
        self.symbols = tuple(quotes)
        self._quotes: dict[str, list[Quote]] = {}
        self._times: dict[str, list[datetime]] = {}
        for symbol, told in quotes.items():
            for quote in told:
                if quote.symbol != symbol:
                    raise ValueError(f"A quote of {quote.symbol} is listed under {symbol}: list it under its own.")
                if quote.event_time.tzinfo is None or quote.event_time.microsecond % 1000:
                    raise ValueError(
                        f"The quote of {symbol} at {quote.event_time.isoformat()} can't be told in milliseconds UTC: "
                        "give its time a zone, and cut it to whole milliseconds."
                    )
            self._quotes[symbol] = sorted(told, key=lambda quote: quote.event_time)
            self._times[symbol] = [quote.event_time for quote in self._quotes[symbol]]

    def quote(self, symbol: str, now: datetime) -> Quote | None:
        """See `QuoteSource`."""
        place = bisect_right(self._times.get(symbol, ()), now)
        return self._quotes[symbol][place - 1] if place else None


class _Walk(NamedTuple):
    """A symbol's nature. `key` seeds its randomness; `volatility` is relative, of one update."""

    key: int
    base_cents: float
    volatility: float
    update_volume: int


class _Block(NamedTuple):
    """Some successive updates: milliseconds from the start of each one's turn to its moment, and prices in cents."""

    delays: np.ndarray
    cents: np.ndarray


class RandomQuotes:
    """A random walk in cents for each symbol, by day and by night, the same for the same seed and symbol.

    Time is cut into turns of `every_s` seconds since 1970. Each turn has one update, at a random moment within it: what
    is polled every 10 s repeats itself now and then. The walk is a chain of bridges between values that are drawn
    around the symbol's base, so that any moment can be told without the moments before it, and no price runs away.
    Per symbol it remembers two bridges, whatever the time that passes. The day's volume grows from midnight UTC.

    Args:
        symbols: what it quotes.
        seed: of everything that is random.
        every_s: mean feed seconds between two updates of a symbol.

    Raises:
        ValueError: unless `every_s` is at least a millisecond.
    """

    def __init__(self, symbols: Sequence[str], *, seed: int, every_s: float = 7.0) -> None:
        self.symbols = tuple(symbols)
        self._seed = seed
        self._every = round(every_s * 1000)
        if self._every < 1:
            raise ValueError(f"A quote can't be updated every {every_s} s: take at least 0.001.")
        self._walks = {symbol: _walk(symbol, seed) for symbol in self.symbols}
        self._blocks: dict[str, dict[int, _Block]] = {symbol: {} for symbol in self.symbols}
        self._closes: dict[str, tuple[int, float]] = {}

    def quote(self, symbol: str, now: datetime) -> Quote | None:
        """See `QuoteSource`."""
        walk = self._walks.get(symbol)
        if walk is None:
            return None
        moment = milliseconds(now)
        turn = moment // self._every
        updated, cents = self._update(symbol, walk, turn)
        if updated > moment:
            updated, cents = self._update(symbol, walk, turn - 1)
        half_spread = 1 + cents // 5000
        return Quote(
            symbol=symbol,
            latest_price=cents / 100,
            event_time=EPOCH + timedelta(milliseconds=updated),
            volume=updated % _DAY_MS * walk.update_volume // self._every,
            bid=(cents - half_spread) / 100,
            ask=(cents + half_spread) / 100,
            bid_size=100 * (1 + cents % 7),
            ask_size=100 * (1 + cents % 5),
            previous_close=self._previous_close(symbol, walk, updated // _DAY_MS),
        )

    def _update(self, symbol: str, walk: _Walk, turn: int) -> tuple[int, int]:
        """The moment (milliseconds since 1970) and the price (cents) of a turn's update."""
        number, place = divmod(turn, _UPDATES)
        blocks = self._blocks[symbol]
        block = blocks.get(number)
        if block is None:
            block = self._block(walk, number)
            if len(blocks) >= _KEPT_BLOCKS:
                blocks.pop(next(iter(blocks), number), None)
            blocks[number] = block
        return turn * self._every + int(block.delays[place]), int(block.cents[place])

    def _block(self, walk: _Walk, number: int) -> _Block:
        rng = self._rng(walk, number)
        start = self._anchor(rng, walk)
        end = self._anchor(self._rng(walk, number + 1), walk)
        path = np.concatenate([[0.0], np.cumsum(rng.normal(0.0, walk.volatility, _UPDATES))])
        bridge = start + path[:-1] + (end - start - path[-1]) * np.arange(_UPDATES) / _UPDATES
        cents = np.rint(walk.base_cents * np.exp(bridge)).astype(np.int32)
        return _Block(rng.integers(0, self._every, _UPDATES).astype(np.int32), cents)

    def _rng(self, walk: _Walk, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, walk.key, number])

    def _anchor(self, rng: np.random.Generator, walk: _Walk) -> float:
        """Where a block starts, as the logarithm of a multiple of the base: the first draw of its generator."""
        # The difference of two anchors varies as a free walk over one block would.
        return rng.normal(0.0, walk.volatility * (_UPDATES / 2) ** 0.5)

    def _previous_close(self, symbol: str, walk: _Walk, day: int) -> float:
        """The walk's price at the start of the block in which 20:00 UTC lies on the day before."""
        known = self._closes.get(symbol)
        if known is None or known[0] != day:
            number = (day * _DAY_MS - _CLOSE_BEFORE_MIDNIGHT_MS) // self._every // _UPDATES
            anchor = self._anchor(self._rng(walk, number), walk)
            known = self._closes[symbol] = (day, int(np.rint(walk.base_cents * np.exp(anchor))) / 100)
        return known[1]


def _walk(symbol: str, seed: int) -> _Walk:
    key = int.from_bytes(sha256(symbol.encode()).digest()[:8])
    rng = np.random.default_rng([seed, key])
    return _Walk(
        key=key,
        base_cents=float(np.clip(rng.lognormal(4.5, 0.8), 15.0, 900.0)) * 100,
        volatility=float(rng.uniform(3e-4, 9e-4)),
        update_volume=int(rng.lognormal(6.0, 1.0)) + 1,
    )
