"""Invented bars in the shapes of vendors that ship as YAML below `lakehouse/vendors`: their files, and their APIs on
loopback. What the bars amount to is computed here from the bars alone, by plain Python.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
DAYS = (date(2024, 3, 7), date(2024, 3, 8), date(2024, 3, 11))
"""Clocks in New York go forward on March 10th, those in Warsaw on the 31st."""


@dataclass(frozen=True)
class InventedBar:
    symbol: str
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: int
    trades: int


@dataclass(frozen=True)
class Market:
    """When a kind of market trades: the bars of a day, and which of them are of its regular session."""

    symbols: tuple[str, ...]
    times: Callable[[date, timedelta], Iterator[datetime]]
    is_regular: Callable[[datetime, date], bool]

    def bars(self, interval: timedelta) -> list[InventedBar]:
        """Bars with gaps; the same for every vendor of the market."""
        chance = random.Random(19)
        made = []
        for symbol in self.symbols:
            price = 100.0
            for day in DAYS:
                for start in self.times(day, interval):
                    first = round(price, 2)
                    last = round(price + chance.uniform(-1, 1), 2)
                    high, low = round(max(first, last) + 0.25, 2), round(min(first, last) - 0.5, 2)
                    made.append(
                        InventedBar(symbol, start, first, high, low, last, chance.randint(1, 900), chance.randint(1, 9))
                    )
                    price = last
        return made

    def daily(self, bars: Sequence[InventedBar]) -> dict[tuple[str, date], tuple[float, float, float, float, float]]:
        """(symbol, session) -> open, high, low, close and volume."""
        found = {}
        for symbol in self.symbols:
            for day in DAYS:
                of_day = [bar for bar in bars if bar.symbol == symbol and self.is_regular(bar.start, day)]
                found[symbol, day] = (
                    of_day[0].open,
                    max(bar.high for bar in of_day),
                    min(bar.low for bar in of_day),
                    of_day[-1].close,
                    float(sum(bar.volume for bar in of_day)),
                )
        return found


def _at(day: date, hour: int, minute: int = 0, zone: Any = NEW_YORK) -> datetime:
    return datetime.combine(day, time(hour, minute), zone).astimezone(UTC)


def _us_times(day: date, interval: timedelta) -> Iterator[datetime]:
    """Before, in and after the regular session, its first and its last bar among them."""
    yield _at(day, 8)
    start, end = _at(day, 9, 30), _at(day, 16)
    yield from (start + number * 7 * interval for number in range((end - start) // (7 * interval)))
    yield end - interval
    yield end
    yield _at(day, 19, 55)


def _whole_day(zone: Any, first_hour: int) -> Callable[[date, timedelta], Iterator[datetime]]:
    def times(day: date, interval: timedelta) -> Iterator[datetime]:
        start = _at(day if first_hour == 0 else day - timedelta(days=1), first_hour, zone=zone)
        step = interval * max(1, timedelta(hours=2) // interval)
        yield from (start + number * step for number in range(timedelta(hours=22) // step))

    return times


US = Market(("AAPL", "BRK.B"), _us_times, lambda start, day: _at(day, 9, 30) <= start < _at(day, 16))
CRYPTO = Market(("BTCUSD", "ETHUSD"), _whole_day(UTC, 0), lambda start, day: start.date() == day)
CURRENCIES = Market(
    ("EURUSD", "GBPUSD"),
    _whole_day(NEW_YORK, 17),
    lambda start, day: _at(day - timedelta(days=1), 17) <= start < _at(day, 17),
)


def _nanoseconds(bar: InventedBar) -> int:
    return int(bar.start.timestamp()) * 10**9


def _lines(*lines: str, header: str | None = None) -> bytes:
    return "".join(f"{line}\n" for line in ([header] if header else []) + list(lines)).encode()


def _by_day(bars: Sequence[InventedBar], zone: Any) -> dict[date, list[InventedBar]]:
    found: dict[date, list[InventedBar]] = {}
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.symbol)):
        found.setdefault(bar.start.astimezone(zone).date(), []).append(bar)
    return found


def _by_symbol(bars: Sequence[InventedBar]) -> dict[str, list[InventedBar]]:
    return {symbol: [bar for bar in bars if bar.symbol == symbol] for symbol in dict.fromkeys(b.symbol for b in bars)}


def polygon(bars: Sequence[InventedBar]) -> dict[str, bytes]:
    return {
        f"us_stocks_sip/minute_aggs_v1/{day:%Y}/{day:%m}/{day}.csv.gz": gzip.compress(
            _lines(
                *(
                    f"{b.symbol},{b.volume},{b.open},{b.close},{b.high},{b.low},{_nanoseconds(b)},{b.trades}"
                    for b in of_day
                ),
                header="ticker,volume,open,close,high,low,window_start,transactions",
            )
        )
        for day, of_day in _by_day(bars, NEW_YORK).items()
    }


def databento(bars: Sequence[InventedBar]) -> dict[str, bytes]:
    def price(value: float) -> int:
        return round(value * 100) * 10**7

    return {
        f"xnas-itch-{day:%Y%m%d}.ohlcv-1m.csv": _lines(
            *(
                f"{_nanoseconds(b)},33,2,38,{price(b.open)},{price(b.high)},{price(b.low)},{price(b.close)},{b.volume},"
                f"{b.symbol}"
                for b in of_day
            ),
            header="ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol",
        )
        for day, of_day in _by_day(bars, UTC).items()
    }


def stooq(bars: Sequence[InventedBar]) -> dict[str, bytes]:
    zone = ZoneInfo("Europe/Warsaw")
    return {
        f"data/5 min/us/nasdaq stocks/1/{symbol.lower()}.us.txt": _lines(
            *(
                f"{symbol}.US,5,{b.start.astimezone(zone):%Y%m%d,%H%M%S},{b.open},{b.high},{b.low},{b.close},{b.volume},0"
                for b in of_symbol
            ),
            header="<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
        )
        for symbol, of_symbol in _by_symbol(bars).items()
    }


def firstrate(bars: Sequence[InventedBar]) -> dict[str, bytes]:
    return {
        f"{symbol}_full_1min_UNADJUSTED.txt": _lines(
            *(
                f"{b.start.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S},{b.open},{b.high},{b.low},{b.close},{b.volume}"
                for b in of_symbol
            )
        )
        for symbol, of_symbol in _by_symbol(bars).items()
    }


def kraken(bars: Sequence[InventedBar]) -> dict[str, bytes]:
    return {
        f"{symbol}_1.csv": _lines(
            *(
                f"{b.start.timestamp():.0f},{b.open},{b.high},{b.low},{b.close},{b.volume}.00000000,{b.trades}"
                for b in of_symbol
            )
        )
        for symbol, of_symbol in _by_symbol(bars).items()
    }


def dukascopy(bars: Sequence[InventedBar]) -> dict[str, bytes]:
    return {
        f"{symbol}_Candlestick_1_M_BID_01.03.2024-31.03.2024.csv": _lines(
            *(f"{b.start:%d.%m.%Y %H:%M:%S}.000,{b.open},{b.high},{b.low},{b.close},{b.volume}.0" for b in of_symbol),
            # A flat candle, as the export has where nothing was traded.
            f"{of_symbol[-1].start + timedelta(minutes=1):%d.%m.%Y %H:%M:%S}.000,999,999,999,999,0",
            header="Gmt time,Open,High,Low,Close,Volume",
        )
        for symbol, of_symbol in _by_symbol(bars).items()
    }


@dataclass(frozen=True)
class Asked:
    """A request as a vendor's server sees it."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class ShapedApi:
    """A vendor's API. `answer` gets the request and the bars of the asked symbol, and makes the body."""

    answer: Callable[[Asked, list[InventedBar]], bytes]
    symbol_in: Callable[[Asked], str]
    bars: list[InventedBar] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def __call__(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        symbol = self.symbol_in(asked)
        return self.answer(asked, [bar for bar in self.bars if bar.symbol == symbol])


def _alpaca(asked: Asked, bars: list[InventedBar]) -> bytes:
    assert (asked.headers["APCA-API-KEY-ID"], asked.headers["APCA-API-SECRET-KEY"]) == ("the-key", "the-secret")
    first, last = (datetime.fromisoformat(asked.query[name]) for name in ("start", "end"))
    within = [bar for bar in bars if first <= bar.start <= last]
    place = int(asked.query.get("page_token", 0))
    page = [
        {"t": f"{b.start:%Y-%m-%dT%H:%M:%SZ}", "o": b.open, "h": b.high, "l": b.low, "c": b.close, "v": b.volume,
         "n": b.trades, "vw": b.close}
        for b in within[place : place + 50]
    ]  # fmt: skip
    token = str(place + 50) if place + 50 < len(within) else None
    return json.dumps({"bars": page, "symbol": asked.path.split("/")[-2], "next_page_token": token}).encode()


def _tiingo(asked: Asked, bars: list[InventedBar]) -> bytes:
    assert (asked.query["token"], asked.query["format"]) == ("the-key", "csv")
    first, last = (date.fromisoformat(asked.query[name]) for name in ("startDate", "endDate"))
    return _lines(
        *(
            f"{b.start:%Y-%m-%d %H:%M:%S}+00:00,{b.close},{b.high},{b.low},{b.open},{b.volume}.0"
            for b in bars
            if first <= b.start.astimezone(NEW_YORK).date() <= last
        ),
        header="date,close,high,low,open,volume",
    )


def _eodhd(asked: Asked, bars: list[InventedBar]) -> bytes:
    assert (asked.query["api_token"], asked.query["fmt"]) == ("the-key", "csv")
    first, last = int(asked.query["from"]), int(asked.query["to"])
    return _lines(
        *(
            f'{b.start.timestamp():.0f},0,"{b.start:%Y-%m-%d %H:%M:%S}",{b.open},{b.high},{b.low},{b.close},{b.volume}'
            for b in bars
            if first <= b.start.timestamp() <= last
        ),
        header="Timestamp,Gmtoffset,Datetime,Open,High,Low,Close,Volume",
    )


def _coinbase(asked: Asked, bars: list[InventedBar]) -> bytes:
    first, last = int(asked.query["start"]), int(asked.query["end"])
    within = [bar for bar in bars if first <= bar.start.timestamp() <= last]
    candles = [
        {"start": f"{b.start.timestamp():.0f}", "low": str(b.low), "high": str(b.high), "open": str(b.open),
         "close": str(b.close), "volume": f"{b.volume}.0"}
        for b in reversed(within)
    ]  # fmt: skip
    return json.dumps({"candles": candles}).encode()


FILES: dict[str, Callable[[Sequence[InventedBar]], dict[str, bytes]]] = {
    "polygon": polygon,
    "databento": databento,
    "stooq": stooq,
    "firstrate": firstrate,
    "kraken": kraken,
    "dukascopy": dukascopy,
}
APIS: dict[str, Callable[[], ShapedApi]] = {
    "alpaca": lambda: ShapedApi(_alpaca, lambda asked: asked.path.split("/")[-2]),
    "tiingo": lambda: ShapedApi(_tiingo, lambda asked: asked.path.split("/")[-2]),
    "eodhd": lambda: ShapedApi(_eodhd, lambda asked: asked.path.split("/")[-1].removesuffix(".US")),
    "coinbase": lambda: ShapedApi(_coinbase, lambda asked: asked.path.split("/")[-2].replace("-", "")),
}
MARKETS = {"kraken": CRYPTO, "coinbase": CRYPTO, "dukascopy": CURRENCIES}
NAMED = {
    "stooq": lambda symbol: f"{symbol}.US",
    "eodhd": lambda symbol: f"{symbol}.US",
    "coinbase": lambda symbol: f"{symbol[:3]}-{symbol[3:]}",
}
"""How vendors call a symbol, where it isn't as the market does."""


def put(folder: Path, objects: dict[str, bytes]) -> None:
    """Writes objects below a folder."""
    for name, body in objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


class ShapedServer(ThreadingHTTPServer):
    """Serves a `ShapedApi` on loopback; `place` is its address."""

    daemon_threads = True

    def __init__(self, api: ShapedApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    @property
    def place(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ShapedServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.server.api(Asked(unquote(parts.path), query, dict(self.headers.items())))
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
