"""The numbers of a table's commits, read at once, are those that delta-rs finds one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from assets_tests.support.described import contract_of
from lakehouse.lake.maintenance import maintain_table
from lakehouse.lake.marks import marks
from lakehouse.lake.table import LakeTable


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    return LakeTable(
        "skipped_objects", str(tmp_path / "a lake" / "t"), {}, contract_of("skipped_objects"), lambda _: None
    )


@pytest.mark.slow
def test_all_are_found_by_their_prefix_with_their_last_numbers(table: LakeTable) -> None:
    assert table.snapshot().marks("a:") == {}
    chance, expected = Random(5), {}
    # More than a hundred commits, after which delta-rs writes a checkpoint.
    for number in range(130):
        names = [f"a:{chance.randrange(40)}", f"b:{chance.randrange(40)}"]
        said = {name: chance.randrange(2**63) for name in names}
        table.snapshot().mark(said)
        expected |= said
        if number in (0, 98, 99, 100, 101, 129):
            found = table.snapshot()
            assert found.marks("a:") == {name[2:]: value for name, value in expected.items() if name[0] == "a"}
            assert all(found.checkpoint(name) == value for name, value in expected.items())
    assert len(list(Path(table.uri, "_delta_log").glob("*.checkpoint.parquet"))) == 1
    assert table.snapshot().files() == []


def test_a_log_that_cannot_be_read_has_none(table: LakeTable) -> None:
    table.snapshot().mark({"a:1": 1})
    assert marks(table.uri, 1, "a:") == {"1": 1}
    log = Path(table.uri, "_delta_log")
    (log / "_last_checkpoint").write_text('{"version": 0, "size": 1}')
    assert marks(table.uri, 1, "a:") == {}


def test_rows_that_another_writer_changed_are_of_unknown_origin(table: LakeTable) -> None:
    row = {
        "source": "a",
        "seen_at": datetime(2024, 1, 1, tzinfo=UTC),
        "reason": "no pattern",
        "objects": 1,
        "examples": [],
    }
    rows = pa.Table.from_pylist([row], schema=table.contract.arrow_schema)
    table.snapshot().append(rows, (), {"made-from:1": 5, "content:1": 6, "other:1": 7})
    assert table.snapshot().marks("made-from:") == {"1": 5}
    # A commit without changes, such as a compaction, leaves them as they are.
    maintain_table(table)
    table.snapshot().append(rows, (), {"made-from:2": 8})
    maintain_table(table)
    assert table.snapshot().marks("made-from:") == {"1": 5, "2": 8}
    write_deltalake(table.uri, rows, mode="append")
    found = table.snapshot()
    assert (found.marks("made-from:"), found.marks("content:"), found.marks("other:")) == ({}, {}, {"1": 7})
    found.mark({"made-from:2": 9})
    assert table.snapshot().marks("made-from:") == {"2": 9}
