"""An instrument's symbols over time, held against a plain computation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.described import contract_of
from assets_tests.support.minute_files import MinuteFiles
from lakehouse.domains.market.bars.symbols import stretches
from lakehouse.lake.engine import connect
from lakehouse.lake.validation import broken_rules, predicates_of

MONDAY = date(2024, 3, 4)
Names = tuple[str | None, str | None]
SCHEMA = {"instrument_id": pl.String, "currency": pl.String, "session": pl.Date, "symbol": pl.String, "name": pl.String}


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as made:
        yield made


def stored(connection: duckdb.DuckDBPyConnection, series: dict[str, dict[date, Names]]) -> list[tuple[object, ...]]:
    rows = [(name, "EUR", day, *called) for name, days in series.items() for day, called in days.items()]
    connection.register("daily", pl.DataFrame(rows, schema=SCHEMA, orient="row").sample(fraction=1, shuffle=True))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {stretches('daily')}")
    assert broken_rules(predicates_of(contract_of("symbols"), connection, "found"), connection, "found") == {}
    columns = "instrument_id, symbol, name, valid_from, valid_to, last_session"
    return connection.execute(f"SELECT {columns} FROM found ORDER BY instrument_id, valid_from").fetchall()


def days(*names: Names | None) -> dict[date, Names]:
    """Sessions from Monday on; None where there was no trade."""
    return {MONDAY + timedelta(days=number): each for number, each in enumerate(names) if each is not None}


def test_a_symbol_that_comes_back_begins_another_stretch(connection: duckdb.DuckDBPyConnection) -> None:
    found = stored(connection, {"I": days(("A", "n"), ("A", "n"), ("B", "n"), None, ("A", "n"))})
    assert [row[1:] for row in found] == [
        ("A", "n", MONDAY, date(2024, 3, 6), date(2024, 3, 5)),
        ("B", "n", date(2024, 3, 6), date(2024, 3, 8), date(2024, 3, 6)),
        ("A", "n", date(2024, 3, 8), None, date(2024, 3, 8)),
    ]


@given(
    series=st.dictionaries(
        st.sampled_from("XYZ"),
        st.lists(
            st.one_of(st.none(), st.tuples(st.sampled_from(["A", "B", None]), st.sampled_from(["n", "m", None]))),
            max_size=9,
        ).map(lambda names: days(*names)),
        min_size=1,
    )
)
def test_stretches__says_what_a_plain_computation_says(
    series: dict[str, dict[date, Names]], connection: duckdb.DuckDBPyConnection
) -> None:
    wanted: list[tuple[object, ...]] = []
    for instrument, called in sorted(series.items()):
        runs = [(names, [day for day, _ in run]) for names, run in groupby(called.items(), key=lambda item: item[1])]
        ends = [run[0] for _, run in runs[1:]] + [None] * bool(runs)
        wanted += [(instrument, *names, run[0], end, run[-1]) for (names, run), end in zip(runs, ends, strict=True)]
    assert stored(connection, series) == wanted


def test_the_view_of_a_source_follows_a_renamed_ticker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files name an instrument by an identifier that stays, and by its ticker of the day."""
    files = MinuteFiles.below(tmp_path, monkeypatch)
    named = {"instrument_id": "id", "symbol": "symbol"}
    bars = files.source.config.bars
    assert bars is not None
    assert bars.objects is not None
    pattern = r"(?P<id>[^/_]+)_(?P<symbol>[^/]+)_(?P<date>\d{4}-\d{2}-\d{2})\.csv"
    objects = bars.objects.model_copy(update={"pattern": pattern})
    files.entries["bars"] = bars.model_copy(update={"named": named, "objects": objects}).model_dump()
    wednesday = MONDAY + timedelta(days=2)
    tuesday = MONDAY + timedelta(days=1)
    for day, symbol in ((MONDAY, "FB"), (tuesday, "META"), (wednesday, "FB")):
        files.put(f"US30303M1027_{symbol}", day, [datetime(day.year, day.month, day.day, 12, tzinfo=UTC)])
    files.take([MONDAY, tuesday, wednesday])
    found = files.lake.sql("SELECT symbol, valid_from, valid_to FROM minutes.symbols ORDER BY valid_from")
    assert found is not None
    assert found.fetchall() == [
        ("FB", MONDAY, tuesday),
        ("META", tuesday, wednesday),
        ("FB", wednesday, None),
    ]
