"""What the filter for suspect bars says of 20 US shares' minutes, extended hours included, and of Xetra's."""

from __future__ import annotations

import csv
import gzip
from datetime import date, time, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest

from lakehouse.domains.market.bars.suspect import suspect_bars
from lakehouse.lake.engine import connect

NEW_YORK = ZoneInfo("America/New_York")
PRICES = ("open", "high", "low", "close")
# Every bar that is flagged. Each is explainable: one price, nowhere near those of its minute, that was traded hours or
# a session before, as trades that are reported late are (08:01 brings those of the evening and night before).
FLAGGED = """
AAPL 2020-10-28 12:30 high 114.6919
AAPL 2020-10-28 12:31 high 114.6919
AAPL 2020-11-02 13:29 high 109.9002
AAPL 2020-11-05 08:01 low 115.0313
AAPL 2020-11-09 18:58 high 120.5
AAPL 2020-12-09 14:39 high 125.525
AAPL 2021-01-04 13:50 high 133.25
AMZN 2020-11-05 08:01 low 3249.26
AMZN 2020-11-30 12:56 high 3216.57
BA 2021-01-04 13:50 high 209.38
BABA 2020-11-20 16:36 close 259.89
BABA 2020-11-30 08:01 high 277.17
BAC 2020-12-14 12:25 high 28.96
BAC 2020-12-18 17:44 open 28.67
BAC 2020-12-18 18:38 close 28.67
BRK-B 2020-12-14 12:25 high 227.99
FB 2021-01-04 13:59 high 273.85
INTC 2020-10-26 15:01 high 47.0898
INTC 2020-12-29 15:51 high 50.49
MSFT 2020-11-02 13:12 high 204.8
NIO 2020-11-04 14:35 high 39.18
NIO 2020-11-13 15:20 high 51.59
NIO 2020-11-30 15:35 high 53.5
NIO 2020-12-18 16:30 low 45.52
NIO 2021-01-06 16:28 high 54.4335
NVDA 2020-11-05 08:01 low 553.14
PDD 2020-11-02 15:50 high 93.5
QQQ 2020-11-09 16:34 high 294.7507
QQQ 2020-12-09 14:50 high 308.1923
QQQ 2020-12-09 15:11 high 308.1923
QQQ 2020-12-21 16:52 close 305.4673
TSLA 2020-11-17 13:26 high 460.26
TSLA 2020-11-20 17:50 high 502.13
TSLA 2020-11-20 17:52 high 500.55
TSLA 2020-11-24 08:01 low 521.2
TSLA 2020-12-03 08:01 low 570.24
TSLA 2020-12-16 10:57 high 628.76
TSLA 2020-12-22 16:40 open 621.31
"""
"""Symbol, end of the minute in New York, price that is off, its value."""


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    """Symbol, label, prices and volume of a vendor's file, oldest first. One file has a broken header, an empty first
    field in every row, and an error message as its last line.
    """
    symbol = path.name.removeprefix("intraday_1min_").removesuffix(".csv.gz")
    rows = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            label, *numbers = [field for field in row if field] or [""]
            if len(numbers) == 5 and label.startswith("20"):
                rows.append((symbol, label, *map(float, numbers)))
    return rows[::-1]


@pytest.fixture(scope="module")
def bars(shared_data: Path) -> pl.DataFrame:
    files = sorted((shared_data / "alphavantage" / "intraday_1min").glob("*.csv.gz"))
    read = pl.DataFrame(
        [row for path in files for row in rows_of(path)], schema=["symbol", "end", *PRICES, "volume"], orient="row"
    ).with_columns(pl.col("end").str.to_datetime(time_unit="us"))
    clock, traded = pl.col("end").dt.time(), pl.col("volume") > 0
    segment = pl.when(clock <= time(9, 30)).then(pl.lit("pre")).when(clock <= time(16)).then(pl.lit("regular"))
    return read.select(
        "symbol",
        *PRICES,
        pl.col("volume").cast(pl.Int64),
        instrument_id=pl.col("symbol"),
        currency=pl.lit("USD"),
        segment=segment.otherwise(pl.lit("post")),
        session=pl.col("end").dt.date(),
        start_at=pl.col("end").dt.offset_by("-1m").dt.replace_time_zone(str(NEW_YORK)).dt.convert_time_zone("UTC"),
        is_traded=traded,
    )


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return connect("")


def suspects(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> list[dict[str, Any]]:
    connection.register("bars", frame)
    return connection.execute(f"FROM ({suspect_bars('bars')}) ORDER BY symbol, start_at").pl().to_dicts()


@pytest.fixture(scope="module")
def flagged(connection: duckdb.DuckDBPyConnection, bars: pl.DataFrame) -> list[dict[str, Any]]:
    return suspects(connection, bars)


def test_the_bad_tick_of_nio_is_found(flagged: list[dict[str, Any]]) -> None:
    (tick,) = (row for row in flagged if row["symbol"] == "NIO" and row["session"] == date(2020, 11, 13))
    assert f"{tick['start_at'].astimezone(NEW_YORK):%H:%M}" == "15:19"
    assert (tick["price"], tick["value"], tick["level"], tick["deviation_pct"]) == ("high", 51.59, 43.8314, 17.7)


def test_these_and_no_others_are_flagged(flagged: list[dict[str, Any]], bars: pl.DataFrame) -> None:
    ends = [(row["start_at"] + timedelta(minutes=1)).astimezone(NEW_YORK) for row in flagged]
    found = [
        f"{row['symbol']} {end:%Y-%m-%d %H:%M} {row['price']} {row['value']}"
        for row, end in zip(flagged, ends, strict=True)
    ]
    assert found == FLAGGED.split("\n")[1:-1]
    assert len(found) < bars.height / 10_000


def test_each_flagged_price_was_traded_earlier(flagged: list[dict[str, Any]], bars: pl.DataFrame) -> None:
    """In the same session or in the one before, extended hours included."""
    unexplained = []
    for row in flagged:
        own = bars.filter(pl.col("symbol") == row["symbol"], pl.col("start_at") < row["start_at"])
        recent = own.filter(pl.col("session").is_in(own["session"].unique().sort().tail(2).implode()))
        if recent.filter(pl.col("low") <= row["value"], pl.col("high") >= row["value"]).is_empty():
            unexplained.append(row)
    assert unexplained == []


@pytest.mark.parametrize(("segment", "times"), [("regular", 15), ("pre", 45), ("post", 45)])
def test_injected_spikes_are_found(
    connection: duckdb.DuckDBPyConnection,
    bars: pl.DataFrame,
    flagged: list[dict[str, Any]],
    segment: str,
    times: int,
) -> None:
    """One in every session and instrument, `times` its usual move there and half a percent."""
    groups: dict[tuple[str, date], list[int]] = {}
    chosen = bars.with_row_index().filter(segment=segment, is_traded=True)
    for symbol, session, place in chosen.select("symbol", "session", "index").iter_rows():
        groups.setdefault((symbol, session), []).append(place)
    price: dict[str, list[float]] = {name: bars[name].to_list() for name in PRICES}
    changed = {name: list(price[name]) for name in PRICES}
    random, injected = Random(51), {}
    already = {(row["symbol"], row["start_at"]) for row in flagged}
    for (symbol, _), places in groups.items():
        place = random.choice(places[3:-3]) if len(places) >= 20 else places[0]
        key = symbol, bars["start_at"][place]
        if len(places) < 20 or key in already:
            continue
        moves = sorted(max(price["high"][i], price["close"][i - 1]) - min(price["low"][i], price["close"][i - 1])
                       for i in places[1:])  # fmt: skip
        size = times * moves[len(moves) * 3 // 4] + 0.005 * price["close"][place]
        side, off = random.choice((("high", "high"), ("low", "low"), ("high", "close"), ("low", "close")))
        changed[side][place] += size if side == "high" else -size
        changed[off][place] = changed[side][place]
        injected[key] = off
    spiked = bars.with_columns(pl.Series(name, values) for name, values in changed.items())
    found = {(row["symbol"], row["start_at"]): row["price"] for row in suspects(connection, spiked)}
    assert len(injected) > 600
    assert len(injected.keys() & found.keys()) > 0.95 * len(injected)
    assert all(found[key] == off for key, off in injected.items() if key in found)
    assert found.keys() - injected.keys() <= already


def test_xetra(connection: duckdb.DuckDBPyConnection, shared_data: Path) -> None:
    """Reference prices that nobody traded at, splits and a demerger are no suspects; few bars are."""
    files = sorted((shared_data / "xetra_pds").glob("*/*.csv.gz"))
    names = {"ISIN": "instrument_id", "Mnemonic": "symbol", "Currency": "currency", "StartPrice": "open",
             "MaxPrice": "high", "MinPrice": "low", "EndPrice": "close", "TradedVolume": "volume"}  # fmt: skip
    read = pl.concat(pl.read_csv(path, infer_schema=False) for path in files).rename(names)
    frame = read.select(
        "instrument_id",
        "symbol",
        "currency",
        pl.when(pl.col("Time") < "15:40").then(pl.lit("regular")).otherwise(pl.lit("post")).alias("segment"),
        session=pl.col("Date").str.to_date(),
        start_at=(pl.col("Date") + " " + pl.col("Time")).str.to_datetime("%Y-%m-%d %H:%M", time_zone="UTC"),
        **{name: pl.col(name).cast(pl.Float64) for name in PRICES},
        volume=pl.col("volume").cast(pl.Int64),
        is_traded=pl.col("volume").cast(pl.Int64) > 0,
    )
    assert frame.height == 623_082
    found = suspects(connection, frame)
    assert len(found) < frame.height / 10_000
    prices = {(row["symbol"], f"{row['start_at']:%m-%d %H:%M}"): (row["price"], row["value"]) for row in found}
    # The opening auction's trades, one by one, and a dip of a minute.
    assert prices["DUE", "07-07 07:02"] == ("close", 97.03)
    assert prices["WIN", "07-03 14:12"] == ("close", 70.1)
    assert not {symbol for symbol, _ in prices} & {"GLJ", "EXX7", "MEO", "CEC"}
