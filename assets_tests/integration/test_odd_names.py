"""A lake is written and read in folders and below prefixes of any name."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import obstore
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from assets_tests.support.exchange_lake import SESSIONS, simulated_exchange
from assets_tests.support.servers.ministack import MinistackS3
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.errors import LakeUnavailable
from lakehouse.ingest.object_store import objects_at, store_at
from lakehouse.lake.location import Location, _aliases, plain_folder
from lakehouse.lake.maintenance import compact_partitions, maintain_table
from lakehouse.lake.sql import predicate
from lakehouse.lake.table import LakeTable
from lakehouse.settings import settings as configuration
from lakehouse.simulators.truth import Stage
from lakehouse.warehouse.dbt import manifest_path

TABLE = "iex/poll_errors"
DAYS = [date(2024, 3, 1), date(2024, 3, 4)]
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)

# Whatever a folder may be called, with much of what means something to a parser of paths, URLs or patterns.
ODD = " äß日#?%{}[]=\\*^|<>\"'`~&+;:,@!$()\t\n"
NAMES = st.text(
    st.one_of(st.sampled_from(ODD + "ab2F0"), st.characters(exclude_characters="/\x00", exclude_categories=["Cs"])),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
# obstore takes it for a drive of Windows.
DRIVE = re.compile(r"[A-Za-z][:|]")


def rows(day: date, *symbols: str) -> pl.DataFrame:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return pl.DataFrame(
        {
            "symbol": list(symbols),
            "slot_at": [at] * len(symbols),
            "attempt": range(1, len(symbols) + 1),
            "day": [day] * len(symbols),
            "kind": ["quota"] * len(symbols),
            "error": ["429"] * len(symbols),
            "occurred_at": [at] * len(symbols),
        }
    )


def write(table: LakeTable, frame: pl.DataFrame) -> None:
    arrow = frame.to_arrow().select(table.contract.column_names).cast(table.contract.arrow_schema)
    table.snapshot().append(arrow, [])


def check(lake: Lake) -> None:
    """Writes, reads, replaces and compacts a table in every way there is."""
    table = lake.table(TABLE)
    assert table.snapshot().delta is None
    write(table, rows(DAYS[0], "AAPL", "GME"))
    write(table, rows(DAYS[1], "AMZN"))
    write(table, rows(DAYS[0], "TSLA"))
    assert symbols(lake, table.snapshot().select()) == ["AAPL", "AMZN", "GME", "TSLA"]
    snapshot = table.snapshot()
    assert symbols(lake, snapshot.select({"day": DAYS[:1]})) == ["AAPL", "GME", "TSLA"]
    assert symbols(lake, snapshot.select_where("occurred_at >= '2024-03-02T00:00:00+00:00'")) == ["AMZN"]
    assert snapshot.count_at_most("occurred_at >= '2024-03-02T00:00:00+00:00'") == 1
    assert symbols(lake, snapshot.min_where("slot_at", "occurred_at", NOON + timedelta(microseconds=10))[1]) == [
        "AAPL",
        "GME",
        "TSLA",
    ]
    assert sorted(table.to_polars()["symbol"]) == ["AAPL", "AMZN", "GME", "TSLA"]
    # The partition's value is the table's, whatever the folders above are called.
    assert set(table.to_polars()["day"]) == set(DAYS)
    assert symbols(lake, f"{snapshot.select()} WHERE day = '2024-03-04'") == ["AMZN"]
    assert symbols(lake, table.at(version=1).select()) == ["AAPL", "GME"]
    compact_partitions(table, "day", ["2024-03-01"])
    maintain_table(table)
    replaced = rows(DAYS[0], "MSFT").to_arrow().select(table.contract.column_names)
    table.snapshot().overwrite(replaced.cast(table.contract.arrow_schema), predicate({"day": DAYS[:1]}))
    assert symbols(lake, table.snapshot().select()) == ["AMZN", "MSFT"]
    found = lake.sql(f"SELECT symbol FROM {TABLE.replace('/', '.')} ORDER BY 1")
    assert found is not None
    assert found.fetchall() == [("AMZN",), ("MSFT",)]


def symbols(lake: Lake, query: str) -> list[str]:
    with lake.connect() as connection:
        return sorted(symbol for (symbol,) in connection.execute(f"SELECT symbol FROM ({query})").fetchall())


def every_file(folder: Path) -> list[str]:
    return [str(Path(path) / name) for path, _, names in os.walk(folder) for name in names]


@pytest.mark.parametrize(
    "name",
    ["my lake", "jürgen", "a#b", "a?b", "a%b", "a%20b", "%2F", "{a,b}", "[ab]", "a=b", "day=2024-03-04", "a\\b", "a*b"],
)
def test_a_lake_below_a_folder_of_that_name_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    check(Lake(str(tmp_path / name / "lake")))
    # Nothing was written beside it.
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    alias = Path(Location(str(tmp_path / name / "lake" / TABLE)).uri)
    assert alias.is_relative_to(tmp_path) or all(entry.is_symlink() for entry in alias.iterdir())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=3))
@example(["a b", "c#d?e", "100%"])
def test_a_lake_below_folders_of_any_name(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Lake(str(Path(folder, *names) / "lake")))
        assert all(path.startswith(str(Path(folder, *names))) for path in every_file(Path(folder)))


@settings(max_examples=25, deadline=None)
@given(NAMES, NAMES.filter(str.isprintable))
def test_objects_of_any_name_in_a_folder_of_any_name_are_fetched(folder: str, name: str) -> None:
    assume(not DRIVE.fullmatch(folder) and not DRIVE.fullmatch(name))
    with tempfile.TemporaryDirectory() as top:
        target = Path(top, folder, name)
        target.parent.mkdir()
        target.write_bytes(name.encode())
        source = objects_at(str(target.parent))
        for row in source.list().objects.iter_rows(named=True):
            assert source.fetch(row["path"], row["tag"]).read() == name.encode()


def test_a_backfill_in_a_home_of_an_odd_name_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my [x] jürgen's #?%20{=" / "day=2024-03-01\\*"
    exchange = simulated_exchange()
    stages: tuple[Stage, ...] = ("first", "late", "repaired")
    for stage in stages:
        exchange.write(folder / "feed", stage=stage)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(folder / "home"))
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(folder / "feed"))
    # A backfill puts it into its process's environment; it goes with the test.
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home" / "dagster"))
    configuration.cache_clear()
    # What the marts' definitions are made from, where another home has not made them in this process.
    assert manifest_path(configuration()).is_file()
    session = str(SESSIONS[0])
    made = CliRunner().invoke(app, ["backfill", "xetra", "--from", session, "--to", session])
    assert made.exit_code == 0, (made.output, made.exception)
    query = "SELECT (SELECT count(*) FROM marts.fct_daily_bar) = count(*) AS same FROM xetra.daily_bars"
    assert CliRunner().invoke(app, ["sql", query, "--format", "csv"]).stdout.split() == ["same", "true"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("my")] == [folder.parent.name]


@pytest.fixture
def bucket(ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable, value in ministack_s3.environment().items():
        monkeypatch.setenv(variable, value)
    return ministack_s3.create_bucket(f"odd-names-{secrets.token_hex(4)}")


@pytest.mark.parametrize("name", ["my jürgen's lake", "a#b%c", "{a,b}+c"])
def test_a_lake_below_a_prefix_of_that_name_is_read_as_it_was_written(name: str, bucket: str) -> None:
    check(Lake(f"s3://{bucket}/{name}/lake"))


@pytest.mark.parametrize("name", ["a?b", "a*b", "[ab]", "day=2024-03-04", "a\\b", "a%20b"])
def test_a_prefix_that_the_libraries_misread_is_rejected(name: str, bucket: str) -> None:
    with pytest.raises(LakeUnavailable, match="can't be the place of a lake"):
        Lake(f"s3://{bucket}/{name}/lake").table(TABLE)


@pytest.mark.parametrize("name", ["my bars", "jürgen", "a#b", "a?b", "a%b", "a%20b", "[ab]", "a=b", "a\\b", "a*b"])
def test_objects_of_that_name_are_fetched_from_a_bucket(name: str, bucket: str) -> None:
    url = f"s3://{bucket}/from {name}"
    obstore.put(store_at(url), f"{name}/{name}.csv", name.encode())
    source = objects_at(url)
    listed = source.list().objects
    assert listed["name"].to_list() == [f"{name}/{name}.csv"]
    assert source.fetch(listed["path"][0], listed["tag"][0]).read() == name.encode()


def test_an_alias_that_another_user_has_made_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    _aliases().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LakeUnavailable, match="belongs to another user"):
        write(Lake(str(tmp_path / "[lake]")).table(TABLE), rows(DAYS[0], "AAPL"))


def test_opening_a_lake_that_is_not_there_creates_nothing(tmp_path: Path) -> None:
    for name in ("lake", "[lake]"):
        assert Lake(str(tmp_path / name)).table(TABLE).snapshot().delta is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_gets_a_name_that_fits_into_a_url(tmp_path: Path) -> None:
    """Dagster puts its home into the URL of SQLite's files."""
    assert plain_folder(tmp_path / "my home" / "jürgen") == tmp_path / "my home" / "jürgen"
    for name in ("a?b", "a#b", "100%", "a%20b"):
        plain = plain_folder(tmp_path / name)
        (plain / "file").write_text(name)
        assert (tmp_path / name / "file").read_text() == name
        assert plain_folder(plain) == plain == plain_folder(tmp_path / name)
