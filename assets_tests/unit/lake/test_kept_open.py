"""A table that is opened again has the version and the files that its log says, though only what is new is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake import kept_open

ROWS = pa.table({"day": ["a", "b"], "number": [1, 2]})
OPENED: list[str] = []
"""The folders that were opened anew."""


def opened(folder: Path) -> DeltaTable:
    """A table as `lakehouse.lake.opening` opens it."""
    if (kept := kept_open.take(str(folder))) is not None:
        return kept[0]
    OPENED.append(str(folder))
    table = DeltaTable(str(folder))
    kept_open.keep(str(folder), table)
    return table


def seen(table: DeltaTable) -> tuple[int, list[str]]:
    return table.version(), sorted(table.file_uris())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    OPENED.clear()
    write_deltalake(str(tmp_path / "table"), ROWS, partition_by=["day"])
    return tmp_path / "table"


def test_take__reads_a_log_once_and_later_only_what_is_new(folder: Path) -> None:
    for number in range(5):
        assert opened(folder).version() == number
        write_deltalake(str(folder), ROWS, mode="append")
    assert len(OPENED) == 1
    found = kept_open.take(str(folder))
    assert found is not None
    assert (found[0].version(), found[1]) == (5, True)


@pytest.mark.parametrize("name", ["00000000000000000001.json#1", "00000000000000000000.crc"])
def test_take__leaves_out_what_another_process_has_just_renamed_or_deleted(folder: Path, name: str) -> None:
    """A link to nothing is listed, and isn't there when it is looked at."""
    (folder / "_delta_log" / name).symlink_to("gone")
    for _ in range(2):
        assert opened(folder).version() == 0
    assert len(OPENED) == 1


def test_take__gives_no_two_readers_the_same_table(folder: Path) -> None:
    first, second = opened(folder), opened(folder)
    write_deltalake(first, ROWS, mode="append")
    assert (first.version(), second.version(), opened(folder).version()) == (1, 0, 1)


def test_take__knows_what_its_reader_committed(folder: Path) -> None:
    write_deltalake(opened(folder), ROWS, mode="append")
    assert seen(opened(folder)) == seen(DeltaTable(str(folder)))
    assert len(OPENED) == 1


def test_take__leaves_a_log_that_was_cut_off_or_lacks_a_commit_to_delta_rs(folder: Path) -> None:
    for _ in range(3):
        write_deltalake(str(folder), ROWS, mode="append")
    for damage in (lambda path: os.truncate(path, 0), Path.unlink):
        kept_open.keep(str(folder), DeltaTable(str(folder)))
        damage(folder / "_delta_log" / f"{1:020}.json")
        assert kept_open.take(str(folder)) is None


STEPS = st.sampled_from(["open", "hold", "release", "append", "overwrite", "own commit", "checkpoint", "replace"])


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=12))
def test_take__gives_the_newest_version_after_any_sequence_of_commits_and_readers(steps: list[str]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name, "table")
        write_deltalake(str(folder), ROWS, partition_by=["day"])
        held: list[tuple[DeltaTable, tuple[int, list[str]]]] = []
        for step in steps:
            match step:
                case "hold":
                    table = opened(folder)
                    held.append((table, seen(table)))
                case "release":
                    held[:] = held[1:]
                case "append" | "overwrite":
                    write_deltalake(str(folder), ROWS, mode=step)
                case "own commit":
                    write_deltalake(opened(folder), ROWS, mode="overwrite")
                case "checkpoint":
                    DeltaTable(str(folder)).create_checkpoint()
                case "replace":
                    held.clear()
                    shutil.rmtree(folder)
                    write_deltalake(str(folder), ROWS, partition_by=["day"])
            assert seen(opened(folder)) == seen(DeltaTable(str(folder)))
            assert [seen(table) for table, _ in held] == [before for _, before in held]


def test_remembered__computes_once_a_version_and_anew_for_another_log(folder: Path) -> None:
    computed: list[int] = []

    def count() -> int:
        table = opened(folder)
        return kept_open.remembered(table, ("files",), lambda: computed.append(0) or len(table.file_uris()))

    assert [count(), count()] == [2, 2]
    write_deltalake(str(folder), ROWS, mode="append")
    assert [count(), count()] == [4, 4]
    shutil.rmtree(folder)
    write_deltalake(str(folder), ROWS.slice(0, 1), partition_by=["day"])
    write_deltalake(str(folder), ROWS.slice(0, 1), mode="append")
    assert [count(), count()] == [2, 2]
    assert len(computed) == 3
