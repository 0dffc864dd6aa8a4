"""How Coinbase, Binance and Finnhub word the quotes of the simulated vendor: their paths, members, units and texts.

IEX's words, with its failures, are in `quote_answers`. The vendors' documentation is linked in `lakehouse/vendors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import unquote

from lakehouse.simulators.quote_source import Quote, milliseconds


@dataclass(frozen=True)
class Shape:
    """A vendor's answers.

    Args:
        words: from the quotes that were asked for to the answer's JSON document.
        needs_token: whether requests carry one, as the parameter `token`.
        whole_seconds: whether its times have no fractions of a second.
    """

    words: Callable[[Sequence[Quote]], object]
    needs_token: bool = False
    whole_seconds: bool = False

    def rounded(self, quote: Quote) -> Quote:
        """The quote with its time as precise as the vendor tells it."""
        fraction = timedelta(microseconds=quote.event_time.microsecond)
        return replace(quote, event_time=quote.event_time - fraction) if self.whole_seconds else quote

    def body(self, quotes: Sequence[Quote]) -> bytes:
        """The answer's bytes."""
        return json.dumps(self.words(quotes), separators=(",", ":")).encode()


@dataclass(frozen=True)
class Asked:
    """A request for quotes of some symbols, in a vendor's way."""

    shape: Shape
    symbols: tuple[str, ...]


def asked_in(path: str, parameters: Mapping[str, str]) -> Asked | None:
    """What a request asks for; None if it is none of these vendors'."""
    match path.split("/"):
        case ["", "products", symbol, "ticker"]:
            return Asked(COINBASE, (unquote(symbol),))
        case ["", "api", "v3", "ticker", "24hr"]:
            return Asked(BINANCE, tuple(json.loads(parameters.get("symbols", "[]"))))
        case ["", "quote"] if "symbol" in parameters:
            return Asked(FINNHUB, (parameters["symbol"],))
    return None


def _coinbase(quotes: Sequence[Quote]) -> object:
    (quote,) = quotes
    return {
        "ask": str(quote.ask),
        "bid": str(quote.bid),
        "volume": f"{quote.volume}.00000000",
        "trade_id": milliseconds(quote.event_time),
        "price": str(quote.latest_price),
        "size": "0.00698254",
        "time": quote.event_time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def _binance(quotes: Sequence[Quote]) -> object:
    return [
        {
            "symbol": quote.symbol,
            "prevClosePrice": str(quote.previous_close),
            "lastPrice": f"{quote.latest_price:.8f}",
            "bidPrice": f"{quote.bid:.8f}",
            "bidQty": f"{quote.bid_size}.00000000",
            "askPrice": f"{quote.ask:.8f}",
            "askQty": f"{quote.ask_size}.00000000",
            "volume": f"{quote.volume}.00000000",
            "openTime": milliseconds(quote.event_time) - 86_400_000,
            "closeTime": milliseconds(quote.event_time),
        }
        for quote in quotes
    ]


def _finnhub(quotes: Sequence[Quote]) -> object:
    (quote,) = quotes
    price, before = quote.latest_price, quote.previous_close
    return {"c": price, "h": price, "l": price, "o": price, "pc": before, "t": milliseconds(quote.event_time) // 1000}


COINBASE = Shape(_coinbase)
BINANCE = Shape(_binance)
FINNHUB = Shape(_finnhub, needs_token=True, whole_seconds=True)
