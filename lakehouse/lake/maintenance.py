"""Housekeeping of tables: compacts small files, and deletes files that no version within the retention needs. Reads and
writes can go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import StaleSnapshot
from lakehouse.lake.lake import Lake
from lakehouse.lake.parquet import writer_properties
from lakehouse.lake.published import kept_versions
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.lake.releases import Home, keep_log, marts_files, release_log, releases
from lakehouse.lake.table import LakeTable, retry_when_stale

RETENTION_HOURS = 7 * 24
"""Files that were removed from a table longer ago are deleted: older versions can't be read then."""
_TARGET_BYTES = 64 * 1024 * 1024
_MANY_FILES = 32
"""Readers open every file of a partition. A small one takes half a millisecond of a core to open, two to compact."""


@dataclass(frozen=True)
class MaintenanceResult:
    """The result of housekeeping for one table."""

    table: str
    files_before: int
    files_after: int
    files_deleted: int


def maintain(lake: Lake, home: Home, retention_hours: int = RETENTION_HOURS) -> list[MaintenanceResult]:
    """Compacts and vacuums every table of the lake that has been written. Keeps what a release pins, and what the next
    publication needs of sources that are held back, which is recorded in the marts of `home`.
    """
    stored = [name if schema == SHARED_SCHEMA else f"{schema}/{name}" for schema, name in lake.tables()]
    tables = [lake.table(name) for name in stored]
    kept = _kept_versions(lake, home)
    return [
        maintain_table(table, kept.get(table.name, set()), retention_hours)
        for table in tables
        if table.contract.partition_by and table.snapshot().delta is not None
    ]


def _kept_versions(lake: Lake, home: Home) -> dict[str, set[int]]:
    """The versions of tables that must stay readable regardless of their age."""
    pinned = releases(lake)
    kept: dict[str, set[int]] = {}
    for release in pinned:
        for name, version in release.versions.items():
            kept.setdefault(name, set()).add(version)
    for marts in marts_files(home, pinned):
        for name, versions in kept_versions(marts).items():
            kept.setdefault(name, set()).update(versions)
    return kept


def compact_partitions(table: LakeTable, partition: str, values: list[str]) -> MaintenanceResult:
    """Compacts some partitions of a table without deleting files, so that readers, writers of other partitions, and
    appends to the same ones are not disturbed.
    """
    wanted = {partition: values}
    before = len(table.snapshot().files(wanted))
    if before > len(values):
        retry_when_stale(lambda: _compact(table, [(partition, "in", values)]))
    return MaintenanceResult(table.name, before, len(table.snapshot().files(wanted)), 0)


def compact_if_many(table: LakeTable, partition: str, value: str) -> None:
    """Compacts a partition that gets a small file with every commit, once it has many. Without it, every run would take
    longer than the one before, until the housekeeping of all tables. Leaves it to the next run if another one commits
    meanwhile.
    """
    if len(table.snapshot().files({partition: [value]})) > _MANY_FILES:
        with suppress(StaleSnapshot):
            _compact(table, [(partition, "in", [value])])


def maintain_table(
    table: LakeTable, kept: Collection[int] = (), retention_hours: int = RETENTION_HOURS
) -> MaintenanceResult:
    """Compacts the partitions that consist of several files, then deletes files that are older than the retention and
    not needed within it: those removed since, and those that were never committed. Keeps the files of the versions
    `kept`, and the log that lists them.
    """
    before = len(table.snapshot().files())
    retry_when_stale(lambda: _compact(table))
    if kept:
        # The table may have been released only since another run of housekeeping looked for releases.
        keep_log(table)
    else:
        release_log(table)
    delta = table.snapshot().delta
    assert delta is not None
    deleted = delta.vacuum(
        retention_hours=retention_hours,
        dry_run=False,
        full=True,
        enforce_retention_duration=retention_hours >= RETENTION_HOURS,
        keep_versions=sorted(kept) or None,
    )
    return MaintenanceResult(table.name, before, len(table.snapshot().files()), len(deleted))


def _compact(table: LakeTable, partitions: list[tuple[str, str, Any]] | None = None) -> None:
    from deltalake.exceptions import CommitFailedError

    delta = table.snapshot().delta
    assert delta is not None
    try:
        delta.optimize.compact(
            partition_filters=partitions,
            target_size=_TARGET_BYTES,
            writer_properties=writer_properties(table.contract.arrow_schema),
        )
    except CommitFailedError as error:
        raise StaleSnapshot(f"{table.name}: {error}") from error
