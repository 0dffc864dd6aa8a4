"""The numbers of a table's commits, read at once, are those that delta-rs finds one by one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from assets_tests.support.described import contract_of
from lakehouse.lake.marks import marks
from lakehouse.lake.table import LakeTable


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    return LakeTable(
        "skipped_objects", str(tmp_path / "a lake" / "t"), {}, contract_of("skipped_objects"), lambda _: None
    )


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
