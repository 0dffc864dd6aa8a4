"""Releases: named states of the lake that can be served to readers, or restored.

A release pins the version of every table, in the lake's table `releases`. Its published marts are a file in the home's
folder `releases`, where the file `in_use` names the release that is served. Loads and derivations always work on the
present state (`Lake.present`).

Creating, using and restoring releases is in `warehouse.releases`, since it concerns the marts too; housekeeping keeps
what a release pins (`maintenance`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lakehouse.errors import ReleaseError, StaleSnapshot, did_you_mean
from lakehouse.lake.migration import due, migrate_table
from lakehouse.lake.stored_table import Pin
from lakehouse.lake.table import LakeTable, retry_when_stale
from lakehouse.whole_file import write_whole

if TYPE_CHECKING:
    from lakehouse.lake.lake import Lake
    from lakehouse.lake.snapshot import Snapshot

RELEASES = "releases"
_IN_USE = "in_use"
_TRIES = 20
_RESTORED_FIRST = ("ingest_ledger",)
"""Rows without a ledger entry don't count, but an entry without its rows would be a loss."""


class Home(Protocol):
    """The settings of an installation that releases need."""

    @property
    def home(self) -> Path:
        """Folder of the installation's files."""

    @property
    def warehouse(self) -> Path:
        """The published file of the marts."""


@dataclass(frozen=True)
class Release:
    """A release: the versions of the tables by path, and the file of the marts (see `marts_file`)."""

    name: str
    created_at: datetime
    versions: Mapping[str, int]
    marts: str | None

    def pin(self, path: str) -> Pin | None:
        """The version at which a table is read; the table of releases itself is never pinned."""
        return None if path == RELEASES else Pin(self.versions.get(path))


@dataclass(frozen=True)
class Change:
    """The effect of restoring a release on one table, with its row counts now and then."""

    path: str
    rows_now: int
    rows_then: int
    commits_since: int


def releases(lake: Lake) -> list[Release]:
    """The releases of a lake, oldest first."""
    return _releases(lake.table(RELEASES).snapshot())


def _releases(snapshot: Snapshot) -> list[Release]:
    if snapshot.delta is None:
        return []
    found: dict[str, Release] = {}
    versions: dict[str, dict[str, int]] = {}
    for row in snapshot.scan().sort("created_at", "name", "table_name").collect().iter_rows(named=True):
        of_release = versions.setdefault(row["name"], {})
        of_release[row["table_name"]] = row["version"]
        found[row["name"]] = Release(row["name"], row["created_at"], of_release, row["marts"])
    return list(found.values())


def release_named(lake: Lake, name: str) -> Release:
    """A release by its name.

    Raises:
        ReleaseError: the lake has none of that name.
    """
    known = {release.name: release for release in releases(lake)}
    if name not in known:
        raise ReleaseError(
            f"the lake at {lake.uri} has no release {name!r}; it has {', '.join(known) or 'none'}"
            f"{did_you_mean(name, known)}"
        )
    return known[name]


def release_folder(home: Home) -> Path:
    """The folder with the marts of the home's releases, and the name of the one in use."""
    return home.home / "releases"


def marts_file(home: Home, release: Release) -> Path | None:
    """The marts of a release; None if none were published when it was made.

    Raises:
        ReleaseError: another home made the release, and has its marts.
    """
    if release.marts is None:
        return None
    path = release_folder(home) / release.marts
    if not path.is_file():
        raise ReleaseError(
            f"release {release.name} has its marts in another home, or {path} was removed: copy it there from the home "
            "that made the release, or run `lakehouse release use latest`"
        )
    return path


def marts_files(home: Home, pinned: Iterable[Release]) -> list[Path]:
    """The marts that the home may serve: the published ones, and those of the releases that it made."""
    folder = release_folder(home)
    return [present_marts(home), *(folder / release.marts for release in pinned if release.marts)]


def present_marts(home: Home) -> Path:
    """The file to publish to: the one that readers open, or another one while they are served a release."""
    return home.warehouse if release_in_use(home) is None else release_folder(home) / "latest.duckdb"


def release_in_use(home: Home) -> str | None:
    """The name of the release that readers of this home are served; None for the present state."""
    try:
        return (release_folder(home) / _IN_USE).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def set_in_use(home: Home, name: str | None) -> None:
    """Serves a release, or (None) the present state, to readers of the home."""
    marker = release_folder(home) / _IN_USE
    if name is None:
        marker.unlink(missing_ok=True)
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    write_whole(marker, f"{name}\n")


def record_release(lake: Lake, name: str, marts: str | None) -> Release:
    """Creates a release of the current state of the lake's tables.

    Raises:
        ReleaseError: the name is taken (perhaps by another process just now), or nothing has been loaded yet.
    """
    import pyarrow as pa

    table = lake.table(RELEASES)

    def work() -> Release:
        snapshot = table.snapshot()
        if name in {release.name for release in _releases(snapshot)}:
            raise ReleaseError(f"there is a release {name} already; choose another name, or drop it first")
        versions = _settled_versions(lake)
        if not versions:
            raise ReleaseError(f"the lake at {lake.uri} is empty; a release keeps what has been loaded")
        made = Release(name, datetime.now(UTC), versions, marts)
        rows = [
            {"name": name, "table_name": path, "version": version, "marts": marts, "created_at": made.created_at}
            for path, version in versions.items()
        ]
        snapshot.append(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), [name])
        return made

    return retry_when_stale(work)


def drop_release(lake: Lake, name: str) -> None:
    """Deletes a release; the next housekeeping deletes the files that only it kept."""
    from lakehouse.lake.sql import predicate

    retry_when_stale(lambda: lake.table(RELEASES).snapshot().delete(predicate({"name": [name]})))


def stored_tables(lake: Lake) -> list[LakeTable]:
    """The tables that a release pins, in the order in which they are restored."""
    from lakehouse.lake.registry import SHARED_SCHEMA

    paths = [table if schema == SHARED_SCHEMA else f"{schema}/{table}" for schema, table in lake.tables()]
    first = [path for path in _RESTORED_FIRST if path in paths]
    others = [path for path in paths if path not in (*_RESTORED_FIRST, RELEASES)]
    tables = [lake.table(path) for path in (*first, *others)]
    return [table for table in tables if table.contract.partition_by]


def _settled_versions(lake: Lake) -> dict[str, int]:
    """The versions of all tables at one moment: read until two readings in a row are equal."""
    for table in stored_tables(lake):
        keep_log(table)
    before = _versions(lake)
    for _ in range(_TRIES):
        versions = _versions(lake)
        if versions == before:
            return versions
        before = versions
    raise ReleaseError(f"the tables of {lake.uri} change too fast for a release; try again when less is being loaded")


def _versions(lake: Lake) -> dict[str, int]:
    found = {table.name: table.stored().version for table in stored_tables(lake)}
    return {path: version for path, version in found.items() if version is not None}


_KEEPS_LOG = "delta.enableExpiredLogCleanup"
"""Delta's property that lets writers delete log files after the retention; old versions can't be opened then."""


def keep_log(table: LakeTable) -> None:
    """Keeps a table's log from now on, so that its current version can always be opened."""
    _set_log_cleanup(table, "false")


def release_log(table: LakeTable) -> None:
    """Lets writers delete log files after the retention again."""
    _set_log_cleanup(table, "true")


def _set_log_cleanup(table: LakeTable, wanted: str) -> None:
    from deltalake.exceptions import CommitFailedError

    def work() -> None:
        delta = table.stored().delta
        if delta is None or delta.metadata().configuration.get(_KEEPS_LOG, "true") == wanted:
            return
        try:
            delta.alter.set_table_properties({_KEEPS_LOG: wanted})
        except CommitFailedError as error:
            raise StaleSnapshot(f"{table.name}: {error}") from error

    retry_when_stale(work)


def changes(lake: Lake, release: Release) -> list[Change]:
    """The changes that restoring a release would make."""
    found = []
    for table in stored_tables(lake):
        now, then = table.snapshot(), _at(table, release)
        if set(now.files()) != set(then.files()):
            commits = (now.version or 0) - (-1 if then.version is None else then.version)
            found.append(Change(table.name, now.row_count(), then.row_count(), commits))
    return found


def restore_tables(lake: Lake, release: Release) -> None:
    """Restores the tables of a release, each by one commit, then migrates those that an earlier version of their
    contract wrote. Restoring again completes a restoration that was cut off: tables that are as the release has them
    are skipped.
    """
    for table in stored_tables(lake):
        retry_when_stale(lambda table=table: _restore(table, release))
    for outdated in due(lake):
        migrate_table(lake, outdated.name)


def _restore(table: LakeTable, release: Release) -> None:
    now, then = table.snapshot(), _at(table, release)
    if now.delta is None or set(now.files()) == set(then.files()):
        return
    if then.version is None:
        now.delete("true")
    else:
        now.restore(then.version)


def _at(table: LakeTable, release: Release) -> Snapshot:
    return table.pinned(release.pin(table.name)).snapshot()
