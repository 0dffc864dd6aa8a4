"""Housekeeping of tables: small files become large ones, and files that no version within the retention needs
go. Reads and writes go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import StaleSnapshot
from lakehouse.lake.lake import Lake
from lakehouse.lake.parquet import writer_properties
from lakehouse.lake.published import kept_versions
from lakehouse.lake.registry import SHARED_SCHEMA
from lakehouse.lake.releases import Home, marts_files, release_log, releases
from lakehouse.lake.table import LakeTable, retry_when_stale

RETENTION_HOURS = 7 * 24
"""A reader or a time travel that is older than this may find its files gone."""
_TARGET_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class MaintenanceResult:
    """What housekeeping did to one table."""

    table: str
    files_before: int
    files_after: int
    files_deleted: int


def maintain(lake: Lake, home: Home, retention_hours: int = RETENTION_HOURS) -> list[MaintenanceResult]:
    """Compacts and vacuums every table of the lake that has been written. What a release pins is kept, and what the
    next publication needs of sources that are held back: the marts in `home` say so.
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
    """The versions of tables that have to stay readable, however old they are."""
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
    """Compacts some partitions of a table, and deletes nothing: readers and writers of the others, and those who append
    to the same ones, go on.
    """
    wanted = {partition: values}
    before = len(table.snapshot().files(wanted))
    if before > len(values):
        retry_when_stale(lambda: _compact(table, [(partition, "in", values)]))
    return MaintenanceResult(table.name, before, len(table.snapshot().files(wanted)), 0)


def maintain_table(
    table: LakeTable, kept: Collection[int] = (), retention_hours: int = RETENTION_HOURS
) -> MaintenanceResult:
    """Compacts the partitions that consist of several files, then deletes the files older than the retention that no
    reader within it needs: those that were removed since, and those of writers that never committed them. The files of
    the versions to be `kept` stay, with the log that says which they are.
    """
    before = len(table.snapshot().files())
    retry_when_stale(lambda: _compact(table))
    if not kept:
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
            writer_properties=writer_properties(table.contract),
        )
    except CommitFailedError as error:
        raise StaleSnapshot(f"{table.name}: {error}") from error
