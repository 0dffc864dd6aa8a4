"""Daily bars of fractional volumes, without volumes and in other units, against a plain computation in fractions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.described import changed, contract_of, with_bars
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.sanity import daily_differences
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.coerce import typed
from lakehouse.lake.engine import connect
from lakehouse.lake.validation import broken_rules, predicates_of

DAY = date(2025, 1, 2)
OPENS = datetime(2025, 1, 2, 9, tzinfo=UTC)
UNITS = [1.0, 0.01, 1e-9, 1e-8, 100.0]
counts = st.integers(1, 10**12)
volumes = st.one_of(
    st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=8),
    st.integers(0, 10**15).map(Decimal),
    st.sampled_from([Decimal(0), Decimal("1E-8"), Decimal("0.1")]),
)
LINE = st.fixed_dictionaries({"prices": st.tuples(counts, counts, counts, counts), "volume": volumes})


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as opened:
        yield opened


def described(unit: float, *, has_volumes: bool) -> BarSource:
    source = source_named("binance")
    columns = dict(source.bars_config.columns)
    if not has_volumes:
        del columns["volume"]
    bars = with_bars(source, price_unit=unit, columns=columns, volume=None if has_volumes else "none")
    return changed(bars, currencies=None)


def raw_rows(source: BarSource, lines: list[dict[str, Any]]) -> pl.DataFrame:
    """The lines, one a minute, as typed rows of raw_bars."""
    texts = []
    for number, line in enumerate(lines):
        first, second = line["prices"][:2]
        prices = {"open": first, "close": second, "high": max(line["prices"]), "low": min(line["prices"])}
        start = (OPENS + timedelta(minutes=number)).timestamp()
        texts.append(
            {name: str(price) for name, price in prices.items()}
            | {"open_time": f"{start:.0f}", "volume": f"{line['volume']:f}", "count": "1"}
            | {"named:symbol": "X", "named:quote": "USD", "object_number": str(number)}
        )
    given_columns = [*source.bars_config.object_columns, "named:symbol", "named:quote", "object_number"]
    rows = typed(pl.DataFrame(texts).select(given_columns), source.bars)
    schema = pl.Schema(contract_of("raw_bars").arrow_schema)
    at = pl.lit(OPENS).cast(schema["published_at"])
    rows = rows.with_columns(
        session=pl.lit(DAY), object=pl.lit("o"), object_version=pl.lit("v"), published_at=at, ingested_at=at
    ).with_row_index("row_number")
    return rows.select(pl.col(name).cast(kind) for name, kind in schema.items())


@given(
    lines=st.lists(LINE, min_size=1, max_size=12),
    unit=st.sampled_from(UNITS),
    has_volumes=st.booleans(),
)
def test_daily_bars_of_any_quantities_are_those_of_a_plain_computation(
    lines: list[dict[str, Any]], unit: float, has_volumes: bool, connection: duckdb.DuckDBPyConnection
) -> None:
    source = described(unit, has_volumes=has_volumes)
    raw = raw_rows(source, lines)
    connection.register("raw", raw.to_arrow())
    contract = source.contract("raw_bars")
    assert broken_rules(predicates_of(contract, connection, "raw"), connection, "raw") == {}
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE ledger AS SELECT 'o' AS object, 'v' AS object_version, 1::BIGINT AS sequence,
            'r' AS reading, 'loaded' AS status, TIMESTAMPTZ '{OPENS}' AS published_at,
            TIMESTAMPTZ '{OPENS}' AS ingested_at,
            [{{'part': DATE '{DAY}', 'rows': {len(lines)}, 'digest': '', 'object_version': 'v'}}] AS parts
        """
    )
    hours = source.calendar.frame.filter(session=DAY)
    connection.register("hours", hours.with_columns(regular_end_at="close_at").to_arrow())
    connection.register("complete", hours.with_columns(is_complete=True).to_arrow())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE bars AS {rules.bars('raw', 'ledger', 'hours')}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE daily AS {rules.daily('bars', 'complete', 'UTC')}")
    assert connection.execute(daily_differences("daily", "(FROM bars WHERE is_traded)")).fetchall() == []
    made = connection.execute(
        "SELECT open, high, low, close, volume, turnover, vwap, bar_count, trades FROM daily"
    ).fetchall()

    traded = [line for line in lines if line["volume"] or not has_volumes]
    if not traded:
        assert made == []
        return
    value = Fraction(str(unit))
    prices = [[float(count * value) for count in line["prices"]] for line in traded]
    wanted = (
        prices[0][0],
        max(map(max, prices)),
        min(map(min, prices)),
        prices[-1][1],
        *(None, None, None),
        *(len(traded), len(traded)),
    )
    ((*found,),) = made
    if has_volumes:
        volume = sum(Fraction(line["volume"]) for line in traded)
        turnover = sum(Fraction(line["volume"]) * line["prices"][1] * value for line in traded)
        assert found[4] == pytest.approx(float(volume), rel=1e-15)
        assert found[5] == pytest.approx(float(turnover), rel=1e-14)
        found[4:6] = [None, None]
    assert tuple(found) == wanted
