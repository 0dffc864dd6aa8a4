"""Parquet as vendors' tools write it: the types of its columns don't change what a row says."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets_tests.support.described import changed, contract_of
from assets_tests.support.objects import read_object
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.products import Product
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.coerce import typed

NAN = float("nan")
MOMENT = datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
COLUMNS = ("isin", "currency", "open", "high", "low", "close", "volume", "trades", "vwap", "ts", "name")
ROW: dict[str, Any] = dict(
    zip(COLUMNS, ("DE0005190003", "EUR", 10.0, 11.0, 9.5, 10.5, 100, 7, 10.25, MOMENT, "BMW"), strict=True)
)


def source(**times: object) -> BarSource:
    """A source of Parquet files, whose time is New York's."""
    xetra = source_named("xetra")
    own = {"instrument_id": "isin", "name": "name", "currency": "currency", "trades": "trades", "vwap": "vwap"}
    columns = own | {name: name for name in ("open", "high", "low", "close", "volume")}
    form = {"columns": ("ts",), "format": "%Y-%m-%d %H:%M", "zone": "America/New_York"} | times
    when = xetra.config.bars.time.model_copy(update=form)
    bars = xetra.config.bars.model_copy(
        update={"format": "parquet", "columns": columns, "constants": {}, "named": {}, "time": when, "upper": ()}
    )
    return changed(xetra, bars=bars)


def row_of(described: BarSource, **written: pa.Array) -> dict[str, Any]:
    """A file's only row, as it is typed."""
    table = pa.table({name: written.get(name, pa.array([value])) for name, value in ROW.items()})
    packed = io.BytesIO()
    pq.write_table(table, packed)
    product: Product = described.config.bars
    received = read_object("x.parquet", packed.getvalue(), product)
    assert (received.rows, received.malformed) == (1, {})
    return typed(received.frame, described.bars).row(0, named=True)


PLAIN = {name: value for name, value in ROW.items() if name not in ("ts", "isin")}


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"volume": pa.array([100.0]), "trades": pa.array([7.0])},
        {"volume": pa.array([100], pa.int8()), "trades": pa.array([7], pa.uint64())},
        {name: pa.array([Decimal(str(ROW[name]))], pa.decimal128(12, 4)) for name in ("open", "high", "low", "vwap")},
        {"close": pa.array([Decimal("10.5")], pa.decimal256(60, 20)), "volume": pa.array([Decimal(100)])},
        {"close": pa.array([10.5], pa.float32())},
        {"currency": pa.array(["EUR"]).dictionary_encode(), "name": pa.array(["BMW"], pa.large_string())},
        {"volume": pa.array([100]).dictionary_encode(), "name": pa.array([b"BMW"])},
        {"volume": pa.array(["100"]), "close": pa.array(["10.50"])},
    ],
    ids=["plain", "floats", "small", "decimals", "long decimals", "singles", "texts", "odd", "text"],
)
def test_a_value_is_the_same_in_every_type(written: dict[str, pa.Array]) -> None:
    row = row_of(source(), **written)
    assert {name: row[name] for name in PLAIN} == PLAIN
    assert row["start_at"] == MOMENT


@pytest.mark.parametrize(
    ("format", "written"),
    [
        ("%Y-%m-%d %H:%M", pa.array([MOMENT], pa.timestamp("us", "UTC"))),
        ("%Y-%m-%d %H:%M", pa.array([MOMENT], pa.timestamp("ns", "America/New_York"))),
        ("%Y-%m-%dT%H:%M:%S", pa.array([MOMENT], pa.timestamp("ms", "Europe/Berlin"))),
        ("%d.%m.%Y %H:%M:%S%.f", pa.array([datetime(2024, 3, 8, 9, 30)], pa.timestamp("ns"))),
        ("epoch", pa.array([MOMENT], pa.timestamp("us", "Europe/Berlin"))),
        ("epoch", pa.array([datetime(2024, 3, 8, 14, 30)], pa.timestamp("ms"))),
        ("epoch", pa.array([1_709_908_200])),
        ("%Y-%m-%d %H:%M", pa.array(["2024-03-08 09:30"])),
        ("%Y-%m-%d %H:%M:%S%z", pa.array([MOMENT], pa.timestamp("us", "Europe/Berlin"))),
        ("%Y-%m-%d %H:%M:%S%:z", pa.array([datetime(2024, 3, 8, 9, 30)], pa.timestamp("ms"))),
        ("%+", pa.array([MOMENT], pa.timestamp("ns", "UTC"))),
    ],
)
def test_a_timestamp_is_its_moment_whatever_its_unit_and_zone(format: str, written: pa.Array) -> None:
    assert row_of(source(format=format), ts=written)["start_at"] == MOMENT


def test_an_epoch_before_1973_keeps_its_unit() -> None:
    moment = datetime(1971, 3, 8, 14, 30, tzinfo=UTC)
    written = pa.array([moment], pa.timestamp("ns", "UTC"))
    assert row_of(source(format="epoch"), ts=written)["start_at"] == moment


def test_a_timestamp_with_more_than_its_form_says_is_not_cut() -> None:
    written = pa.array([datetime(2024, 3, 8, 14, 30, 20, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    assert row_of(source(), ts=written)["start_at"] is None


def test_a_date_and_a_time_in_two_columns_are_joined() -> None:
    described = source(columns=("ts", "name"), format="%Y-%m-%d %H:%M:%S")
    row = row_of(described, ts=pa.array([date(2024, 3, 8)]), name=pa.array([time(9, 30)]))
    assert row["start_at"] == MOMENT


def test_nan_is_null_where_a_value_may_be_missing() -> None:
    row = row_of(source(), trades=pa.array([NAN]), vwap=pa.array([NAN], pa.float32()))
    assert (row["trades"], row["vwap"]) == (None, None)
    assert not any(row[name] for name in row if name.startswith("untyped_"))
    assert row["close"] == 10.5


def test_nan_is_missing_where_a_value_is_needed() -> None:
    """The contract refuses it as `close is missing or not a double`."""
    assert row_of(source(), close=pa.array([NAN]))["close"] is None
    assert not contract_of("raw_bars").column("close").nullable


def test_infinity_is_not_taken_for_missing() -> None:
    assert row_of(source(), close=pa.array([float("inf")]))["close"] == float("inf")
