"""A table's log that a crashed disk has damaged is an error that names the file, never a table with fewer rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from assets_tests.support.dbt_warehouse import TUESDAY, VENDOR, Bar, Key, write
from lakehouse.api import Lake
from lakehouse.errors import TableDamaged
from lakehouse.lake.damage import require_never_written
from lakehouse.lake.table import LakeTable


@pytest.fixture
def table() -> LakeTable:
    """Of four commits: the table's creation and three appends."""
    write({Key("S", TUESDAY, "USD"): Bar(40.0, "S")}, VENDOR)
    found = Lake.open().table(f"{VENDOR}/daily_bars")
    rows = found.to_polars().to_arrow()
    for name in ("a", "b"):
        found.snapshot().append(rows, [name])
    assert found.to_polars().height == found.snapshot().version == 3
    return found


def commit(table: LakeTable, version: int) -> Path:
    return Path(table.uri, "_delta_log", f"{version:020}.json")


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


DAMAGE = {
    "empty": (cut(0), "is empty"),
    "a line feed": (lambda path: path.write_bytes(b"\n"), "is empty"),
    "cut off": (cut(300), "is cut off or overwritten"),
    "zeros": (lambda path: path.write_bytes(bytes(500)), "is cut off or overwritten"),
    "missing": (Path.unlink, "is missing"),
}


@pytest.mark.parametrize(
    ("version", "damage", "why"),
    [
        pytest.param(version, *how, id=f"{version} {name}")
        for version in (0, 2, 3)
        for name, how in DAMAGE.items()
        # Without its last commit, a table is the one before.
        if (version, name) != (3, "missing")
    ],
)
def test_snapshot__an_empty_or_damaged_commit_drops_no_rows_silently(
    table: LakeTable, version: int, damage: Callable[[Path], None], why: str
) -> None:
    path = commit(table, version)
    damage(path)
    for read in (table.to_polars, lambda: Lake.open().sql(f"FROM {VENDOR}.daily_bars")):
        with pytest.raises(TableDamaged, match=f"{path} {why}.*restore it from a backup"):
            read()


def test_refreshed__an_empty_commit_drops_no_rows_silently(table: LakeTable) -> None:
    before = table.snapshot()
    before.append(table.to_polars().to_arrow(), ["c"])
    os.truncate(commit(table, 4), 0)
    with pytest.raises(TableDamaged, match=r"4\.json is empty"):
        table.at(version=3).refreshed()


def test_snapshot__a_log_without_commits_beside_data_is_damage(table: LakeTable) -> None:
    for version in range(4):
        commit(table, version).unlink()
    with pytest.raises(TableDamaged, match=f"{table.uri}/_delta_log has no commits, though the table has data"):
        table.snapshot()
    Path(table.uri, "_delta_log").rmdir()
    with pytest.raises(TableDamaged, match="has no commits"):
        table.snapshot()


def test_require_never_written__a_table_that_another_writer_has_just_filled_is_whole(table: LakeTable) -> None:
    require_never_written(table.uri)


def test_snapshot__a_checkpoint_that_is_damaged_or_missing_is_named(table: LakeTable) -> None:
    DeltaTable(table.uri).create_checkpoint()
    (checkpoint,) = Path(table.uri, "_delta_log").glob("*.checkpoint.parquet")
    os.truncate(commit(table, 2), 0)  # The checkpoint has what it said.
    assert table.to_polars().height == 3
    os.truncate(checkpoint, 500)
    with pytest.raises(TableDamaged, match=f"{checkpoint} is a damaged checkpoint"):
        table.snapshot()
    checkpoint.unlink()
    with pytest.raises(TableDamaged, match=r"2\.json is empty"):
        table.snapshot()
    for version in range(4):
        commit(table, version).unlink()
    with pytest.raises(TableDamaged, match="_last_checkpoint names a checkpoint that is missing"):
        table.snapshot()
