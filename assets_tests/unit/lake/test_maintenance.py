"""Housekeeping removes what no reader within the retention needs, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from lakehouse.api import Lake
from lakehouse.lake.maintenance import RETENTION_HOURS, maintain_table

DAY = datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_files_that_a_killed_writer_never_committed_go_after_the_retention(tmp_path: Path) -> None:
    table = Lake(str(tmp_path / "lake")).table("iex/poll_errors")
    row = {"symbol": "AAPL", "slot_at": DAY, "attempt": 1, "day": date(2024, 3, 1), "kind": "quota", "error": "429"}
    frame = pl.DataFrame([{**row, "occurred_at": DAY}])
    table.snapshot().append(frame.to_arrow().select(table.contract.column_names).cast(table.contract.arrow_schema), [])
    (stored,) = Path(table.uri).rglob("*.parquet")
    orphaned, being_written = stored.with_name("part-orphaned.parquet"), stored.with_name("part-new.parquet")
    for path in (orphaned, being_written):
        shutil.copyfile(stored, path)
    long_ago = time.time() - (RETENTION_HOURS + 1) * 3600
    for path in (orphaned, stored):
        os.utime(path, (long_ago, long_ago))

    assert maintain_table(table).files_deleted == 1
    assert sorted(Path(table.uri).rglob("*.parquet")) == sorted([stored, being_written])
    assert table.to_polars().height == 1
