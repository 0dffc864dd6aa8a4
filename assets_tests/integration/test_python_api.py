"""The lake from Python, as a notebook uses it."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.exchange_lake import SESSIONS
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.errors import LakeUnavailable, TableMissing
from lakehouse.ingest.load import load
from lakehouse.lake.contract import ContractError
from lakehouse.lake.engine import opened


@pytest.fixture
def lake(first_load: FirstLoad) -> Lake:
    return Lake.open()


def test_a_lake_is_opened_by_its_home_or_by_the_folder_of_its_tables(lake: Lake, first_load: FirstLoad) -> None:
    home = first_load.lake.home
    for place in (home, str(home), home / "lake", f"{home}/lake"):
        opened = Lake.open(place)
        assert opened.uri == lake.uri
        assert opened.warehouse == lake.warehouse
        assert opened.table("xetra/bars").to_polars().height == lake.table("xetra/bars").to_polars().height > 0
    for wrong in (home / "lak", f"/{'a' * 300}"):
        with pytest.raises(LakeUnavailable, match="is no folder"):
            Lake.open(wrong)


@pytest.mark.parametrize("place", ["", "  "])
def test_an_empty_name_is_not_the_current_folder(place: str) -> None:
    with pytest.raises(LakeUnavailable, match="names no lake; name a home"):
        Lake.open(place)


def test_a_table_that_a_source_never_has_is_missing_and_not_empty(lake: Lake) -> None:
    for name, known in {
        "xetra/quotes": "xetra in the lake at .* has no table quotes; it has .*daily_bars",
        "xetra/quarantine": "xetra in the lake at .* has no table quarantine; it has .*daily_bars",
        "daily_bars": "itself has no table daily_bars; it has .*quarantine",
    }.items():
        with pytest.raises(TableMissing, match=known):
            lake.table(name).to_polars()
    assert lake.table("xetra/official_daily").to_polars().height == 0
    assert lake.table("reconciliation_breaks").to_polars().height == 0


def test_a_moment_may_be_a_text(lake: Lake) -> None:
    now = datetime.now(UTC) + timedelta(minutes=1)
    for text in (f"{now:%Y-%m-%d %H:%M}", now.isoformat(), f"{now:%Y-%m-%dT%H:%M}"):
        found = Lake.open(as_of=text).sql("SELECT count(*) FROM lake.ingest_ledger")
        assert found is not None
        assert found.fetchall()[0][0] > 0
    assert Lake.open(as_of="2020-01-01").as_of == datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="is no timestamp"):
        Lake.open(as_of="yesterday")


def test_a_lake_and_a_table_say_where_they_are(lake: Lake) -> None:
    assert repr(lake) == f"Lake({lake.uri!r})"
    assert repr(Lake.open(as_of="2024-03-01")) == f"Lake({lake.uri!r}, as_of='2024-03-01T00:00:00+00:00')"
    assert lake.uri in repr(lake.table("xetra/bars"))


def test_a_stored_version_or_moment_is_read(lake: Lake) -> None:
    ledger = lake.table("ingest_ledger")
    last = ledger.snapshot().version
    assert last is not None
    assert ledger.at(version=last).scan().collect().equals(ledger.to_polars())
    assert ledger.at("2999-01-01").version == last
    for wrong in (99_999, -1, 2**70):
        with pytest.raises(
            TableMissing, match=f"ingest_ledger cannot be read at {wrong}; its versions are 0 to {last},"
        ):
            ledger.at(version=wrong)
    with pytest.raises(TableMissing, match=f"its versions are 0 to {last}, since 20.* UTC"):
        ledger.at("2000-01-01")
    with pytest.raises(TypeError, match="either a moment or version="):
        ledger.at()


def test_daily_bars_of_some_symbols_and_sessions(lake: Lake) -> None:
    everything = lake.daily_bars("xetra").pl()
    symbol = everything["symbol"].value_counts().sort("count", "symbol")["symbol"][-1]  # traded in each session
    found = lake.daily_bars("xetra", symbols=symbol, start=SESSIONS[1], end=str(SESSIONS[2])).pl()
    wanted = (everything["symbol"] == symbol) & everything["session"].is_between(SESSIONS[1], SESSIONS[2])
    key = ["instrument_id", "currency", "session"]
    assert found.sort(key).equals(everything.filter(wanted).sort(key))
    assert set(found["session"]) == set(SESSIONS[1:3])
    assert lake.daily_bars("xetra", symbols=[]).pl().height == 0


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("FROM xetra.daily_bar", "'xetra.daily_bars'"),
        ("FROM xerta.daily_bars", "'xetra.daily_bars'"),
        ("FROM lake.quarantene", "'lake.quarantine'"),
        ("FROM xerta.adjusted_daily_bars()", "'xetra.adjusted_daily_bars'"),
    ],
)
def test_a_mistyped_table_is_suggested(query: str, meant: str, lake: Lake) -> None:
    with pytest.raises(duckdb.CatalogException, match="did you mean") as found:
        lake.sql(query)
    assert meant in str(found.value)
    assert lake.uri in str(found.value)


def test_a_mistyped_source_is_suggested(lake: Lake) -> None:
    with pytest.raises(TableMissing, match="has no source 'xerta'; it has xetra; did you mean 'xetra'") as found:
        lake.daily_bars("xerta")
    assert lake.uri in str(found.value)
    with pytest.raises(ContractError, match="did you mean 'daily_bars'"):
        lake.table("xetra/daily_bar")
    with pytest.raises(TableMissing, match=r"xerta/daily_bars.*did you mean 'xetra/daily_bars'"):
        lake.table("xerta/daily_bars").to_polars()


def test_the_marts_as_of_a_moment_are_those_of_the_lake_that_was_opened(
    first_load: FirstLoad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not those of the settings' lake."""
    from lakehouse.settings import settings

    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "another"))
    settings.cache_clear()
    opened = Lake.open(first_load.lake.home, as_of=datetime.now(UTC))
    found = opened.sql("SELECT count(*) FROM marts.dim_instrument")
    assert found is not None
    assert found.fetchall()[0][0] > 0


def test_queries_have_catalogs_of_their_own_which_go_with_them(lake: Lake) -> None:
    """They share a DuckDB, in which each sees its own views alone; macros and what a relation creates, too."""

    def catalogs() -> set[str]:
        found = lake.sql("SELECT 1")  # what has gone is detached when the next query begins
        assert found is not None
        with opened(lake.uri) as connection:
            names = connection.execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal").fetchall()
        return {name for (name,) in names if name.startswith("query_")}

    gc.collect()
    before = catalogs()
    query = "FROM xetra.daily_bars ORDER BY ALL"
    first, second = lake.sql(query), lake.sql(query)
    assert first is not None
    assert second is not None
    first.create("mine")
    second.create("mine")
    filtered = first.filter("volume > 0")
    del first
    gc.collect()
    assert filtered.pl().equals(second.pl().filter(pl.col("volume") > 0))
    assert len(catalogs() - before) >= 2
    with pytest.raises(duckdb.CatalogException, match="mine"):
        lake.sql("FROM xetra.mine")
    del second, filtered
    gc.collect()
    assert len(catalogs() - before) <= 1


def test_a_relation_is_of_the_moment_of_its_query(first_load: FirstLoad, lake: Lake) -> None:
    count = lake.sql("SELECT count(*) FROM xetra.raw_bars")
    assert count is not None
    before = lake.table("xetra/raw_bars").to_polars().height
    first_load.lake.exchange.write(first_load.lake.feed, "late")
    load(lake, source_named("xetra").bars, SESSIONS)
    assert lake.table("xetra/raw_bars").to_polars().height > before
    assert count.fetchall() == [(before,)]


def test_batches_are_read_on_after_their_relation_and_its_catalog_are_gone(lake: Lake) -> None:
    rows = lake.table("xetra/raw_bars").to_polars().height
    relation = lake.sql("FROM xetra.raw_bars, range(50)")
    assert relation is not None
    reader = relation.to_arrow_reader(1_000)
    first = reader.read_next_batch().num_rows
    del relation
    for _ in range(2):
        gc.collect()
        assert lake.sql("SELECT 1") is not None
    assert first + sum(batch.num_rows for batch in reader) == 50 * rows
