"""What `lakehouse init` guesses of files in many shapes: read by the guess, they are the bars that were written."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest

from assets_tests.support.described import resolved
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.guess.guess import Guess, guess, sample_of
from lakehouse.domains.market.guess.markets import market_of
from lakehouse.ingest.discover import version_of
from lakehouse.ingest.object_store import objects_at
from lakehouse.ingest.rehearsal import read_first
from lakehouse.settings import settings

NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")
DAYS = (date(2024, 3, 7), date(2024, 3, 8), date(2024, 3, 11))
"""Clocks in New York go forward on March 10th, those in Berlin on the 31st."""
STEP = timedelta(minutes=15)


@dataclass(frozen=True)
class Bar:
    symbol: str
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: int

    @property
    def end(self) -> datetime:
        return self.start + STEP

    @property
    def prices(self) -> tuple[float, float, float, float]:
        return self.open, self.high, self.low, self.close


def all_bars() -> list[Bar]:
    """From 09:30 to 16:00 in New York, the newest symbol last."""
    made = []
    for place, symbol in enumerate(("AAPL", "BRK.B")):
        for day in DAYS:
            opens = datetime.combine(day, time(9, 30), NEW_YORK).astimezone(UTC)
            for number in range(26):
                first = 100.0 + place * 50 + number * 0.25
                last = first + (0.5 if number % 3 else -0.75)
                made.append(
                    Bar(
                        symbol,
                        opens + number * STEP,
                        first,
                        max(first, last) + 0.25,
                        min(first, last) - 0.5,
                        last,
                        1000 - number * (-1) ** number,
                    )
                )
    return made


def by_day(bars: Sequence[Bar]) -> dict[date, list[Bar]]:
    return {day: [bar for bar in bars if bar.start.date() == day] for day in DAYS}


def by_symbol(bars: Sequence[Bar]) -> dict[str, list[Bar]]:
    return {symbol: [bar for bar in bars if bar.symbol == symbol] for symbol in ("AAPL", "BRK.B")}


def lines(rows: Sequence[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def json_lines(bars: Sequence[Bar]) -> dict[str, bytes]:
    """Milliseconds since 1970, prices below a member."""
    return {
        f"{day:%Y/%m/%d}.jsonl": lines(
            [
                json.dumps({"T": b.symbol, "t": int(b.start.timestamp()) * 1000, "v": b.volume,
                            "price": dict(zip("ohlc", b.prices, strict=True))})
                for b in of_day
            ]
        )
        for day, of_day in by_day(bars).items()
    }  # fmt: skip


def json_documents(bars: Sequence[Bar]) -> dict[str, bytes]:
    """A document per symbol, which says the symbol once."""
    return {
        f"{symbol}.json": json.dumps({
            "ticker": symbol,
            "results": [
                {"t": f"{b.start:%Y-%m-%dT%H:%M:%SZ}", **dict(zip("ohlc", b.prices, strict=True)), "v": b.volume}
                for b in of_symbol
            ],
        }).encode()
        for symbol, of_symbol in by_symbol(bars).items()
    }  # fmt: skip


def _parquet(bars: Sequence[Bar], times: pl.Series) -> bytes:
    target = io.BytesIO()
    prices = {name: [getattr(bar, name) for bar in bars] for name in ("open", "high", "low", "close")}
    frame = pl.DataFrame({"symbol": [b.symbol for b in bars], "timestamp": times, **prices})
    frame.with_columns(volume=pl.Series([b.volume for b in bars])).write_parquet(target)
    return target.getvalue()


def parquet_in_utc(bars: Sequence[Bar]) -> dict[str, bytes]:
    return {f"bars_{day}.parquet": _parquet(of_day, pl.Series([b.start for b in of_day])) for day, of_day in
            by_day(bars).items()}  # fmt: skip


def parquet_without_zone(bars: Sequence[Bar]) -> dict[str, bytes]:
    """Ends of bars on New York's clock."""
    return {
        f"bars_{day}.parquet": _parquet(
            of_day, pl.Series([b.end.astimezone(NEW_YORK).replace(tzinfo=None) for b in of_day])
        )
        for day, of_day in by_day(bars).items()
    }


def headless_histories(bars: Sequence[Bar]) -> dict[str, bytes]:
    """A file per symbol without a header, starts on Berlin's clock, tabs."""
    return {
        f"us/{symbol}.txt": lines(
            [
                "\t".join([f"{b.start.astimezone(BERLIN):%Y.%m.%d}", f"{b.start.astimezone(BERLIN):%H:%M:%S}",
                           *map(str, b.prices), str(b.volume)])
                for b in of_symbol
            ]
        )
        for symbol, of_symbol in by_symbol(bars).items()
    }  # fmt: skip


def american_text(bars: Sequence[Bar]) -> dict[str, bytes]:
    """Month before day, halves of the day, UTF-16, and a missing number of trades."""
    return {
        f"{day:%Y%m%d}.csv": "\r\n".join(
            [
                "Ticker|Trades|DateTime|Last Price|Low Price|High Price|Open Price|Total Volume",
                *(
                    f"{b.symbol}|N/A|{b.end.astimezone(NEW_YORK):%m/%d/%Y %I:%M %p}|{b.close}|{b.low}|{b.high}|{b.open}"
                    f"|{b.volume}"
                    for b in of_day
                ),
            ]
        ).encode("utf-16")
        for day, of_day in by_day(bars).items()
    }


def zipped_seconds(bars: Sequence[Bar]) -> dict[str, bytes]:
    """A zip per symbol and day, seconds since 1970, no header."""
    made = {}
    for day, of_day in by_day(bars).items():
        for symbol, of_symbol in by_symbol(of_day).items():
            target = io.BytesIO()
            with zipfile.ZipFile(target, "w") as archive:
                rows = [",".join(map(str, (int(b.start.timestamp()), *b.prices, b.volume))) for b in of_symbol]
                archive.writestr("data.csv", lines(rows))
            made[f"{symbol}/{symbol}-15m-{day}.zip"] = target.getvalue()
    return made


def latin_text(bars: Sequence[Bar]) -> dict[str, bytes]:
    """Decimal commas, a name that is not UTF-8, and an ISIN beside the symbol."""
    isins = {"AAPL": "US0378331005", "BRK.B": "US0846707026"}
    made = {}
    for day, of_day in by_day(bars).items():
        rows = ["ISIN;Name;Symbol;Zeit;Open;High;Low;Close;Volume"]
        for b in of_day:
            numbers = ";".join(str(price).replace(".", ",") for price in b.prices)
            local = b.start.astimezone(NEW_YORK)
            rows.append(f"{isins[b.symbol]};Café;{b.symbol};{local:%d.%m.%Y %H:%M};{numbers};{b.volume}")
        made[f"{day:%d-%m-%Y}.csv"] = "\n".join(rows).encode("cp1252")
    return made


SHAPES: dict[str, Callable[[Sequence[Bar]], dict[str, bytes]]] = {
    shape.__name__: shape
    for shape in (
        json_lines,
        json_documents,
        parquet_in_utc,
        parquet_without_zone,
        headless_histories,
        american_text,
        zipped_seconds,
        latin_text,
    )
}


def guessed(folder: Path) -> tuple[Guess, pl.DataFrame, list[str]]:
    """The guess, the bars that the files are by it, and the reasons against others."""
    sample = sample_of(str(folder), objects_at(str(folder)))
    found = guess("acme", sample, market_of("XNYS"), settings())
    source = resolved(SourceConfig.model_validate(found.attributes))
    rows = sample.store.list().objects.sort("name").iter_rows(named=True)
    items = [item for row in rows if (item := version_of(row, source.bars)) is not None]
    with duckdb.connect() as connection:
        read = read_first(sample.store, items, source.bars, connection)
    assert not [each.error for each in read if each.error is not None]
    reasons = [reason for each in read for of_row in each.reasons for reason in of_row]
    return found, pl.concat([each.rows for each in read]), reasons


@pytest.mark.parametrize("shape", SHAPES)
def test_guess__reads_files_as_the_bars_that_were_written(shape: str, tmp_path: Path) -> None:
    bars = all_bars()
    for name, body in SHAPES[shape](bars).items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    found, frame, reasons = guessed(tmp_path / "files")
    assert reasons == []
    columns = ("symbol", "start_at", "open", "high", "low", "close", "volume")
    read = sorted(frame.select(columns).rows())
    assert read == sorted((b.symbol, b.start, *b.prices, float(b.volume)) for b in bars)
    assert set(frame["interval"]) == {"15min"}
    assert found.attributes["bars"]["objects"]["url"] == str(tmp_path / "files")
