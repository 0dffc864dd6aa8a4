"""Opens a stored table at its current or pinned version, if this version of Lakehouse can read it."""

from __future__ import annotations

from lakehouse.errors import LakeUnavailable, TableNewer, TableOutdated, in_one_line
from lakehouse.lake import kept_open
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.stored_table import StoredTable


def open_snapshot(table: StoredTable) -> Snapshot:
    """A table's current state, or its pinned one; a table that was never written is a snapshot without files.

    Raises:
        LakeUnavailable, TableDamaged: see `open_stored`.
        TableOutdated: an earlier version of its contract wrote it, or it lacks a required column. A missing column that
            may be NULL is read as NULL, and added by the next write. A pinned state is read through the migrations.
        TableNewer: a later version of its contract wrote it, so that it can't be read.
    """
    found = open_stored(table)
    _require_readable(found)
    return found


def open_stored(table: StoredTable) -> Snapshot:
    """A table's current state, or its pinned one, whichever version of its contract wrote it. A table that was never
    written is a snapshot without files.

    Raises:
        LakeUnavailable: the storage can't be read, or no longer has the pinned version.
        TableDamaged: a file of the table's log is empty, cut off or missing.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    version = None if table.pin is None else table.pin.version
    if table.pin is not None and version is None:
        return Snapshot(table, None)
    try:
        if not table.location.exists():
            table.location.require_whole(version)
            return Snapshot(table, None)
        table.location.open()
        kept = kept_open.take(table.location.uri) if version is None else None
        delta, is_read = kept or (DeltaTable(table.location.uri, version, storage_options=table.storage_options), True)
        table.location.open()
        if is_read:
            table.location.require_whole(delta.version())
        if kept is None and version is None:
            kept_open.keep(table.location.uri, delta)
    except TableNotFoundError as error:
        table.location.require_whole(None)
        if version is not None:
            raise LakeUnavailable(f"{table.uri} can't be opened at version {version}: it is gone") from error
        return Snapshot(table, None)
    except (OSError, DeltaError) as error:
        if damage := table.location.damage():
            raise damage from error
        at = "" if version is None else f" at version {version}"
        raise LakeUnavailable(f"{table.uri} can't be opened{at}: {in_one_line(error)}") from error
    return Snapshot(table, delta)


def _require_readable(snapshot: Snapshot) -> None:
    table = snapshot.table
    version, wanted = snapshot.contract_version, table.contract.version
    steps = table.contract.steps_from(version) if version < wanted else None
    if table.pin is not None and steps and not table.contract.lacks_parameters(steps):
        # What a release or a publication keeps is never migrated: it is read through the migrations.
        return
    lacking = [name for name in snapshot.lacking if not table.contract.column(name).nullable]
    wrong = ([f"it lacks {', '.join(lacking)}"] if lacking else []) + snapshot.differing
    if version > wanted and wrong:
        raise TableNewer(
            f"{table.name} was written by version {version} of its contract, and this is version {wanted}: "
            f"{'; '.join(wrong)}",
            "Update Lakehouse to read it",
        )
    if steps:
        raise TableOutdated(
            f"{table.name} was written by version {version} of its contract, and this is version {wanted}: run "
            "`lakehouse migrate` to see what changes, and `lakehouse migrate --apply` to change it"
        )
    if version < wanted or wrong:
        why = "; ".join(wrong) or f"version {version} of its contract, and this is version {wanted}"
        raise TableOutdated(
            f"{table.name} was written by an older version of Lakehouse: {why}",
            "Set LAKEHOUSE_HOME (or LAKEHOUSE_LAKE_URI) to a new place and load the sources into it again",
        )
