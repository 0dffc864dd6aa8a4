"""Keeps tables in folders open between their uses, so that opening one again reads only what is new in its log.

delta-rs reads the whole log since the last checkpoint to open a table: 20 ms of a core for 60 commits, and a run opens
the same few tables two hundred times. What it opened returns here once the last reader of the table has gone, and the
next one takes it over: one object never serves two readers, since commits move it to their version. Before that, the
log's files are compared by name, size and time with those that it was read from; where they differ in any other way
than by later commits, the table is opened anew. Buckets are always read.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.lake.damage import LOG
from lakehouse.lake.location import is_remote

if TYPE_CHECKING:
    from deltalake import DeltaTable

T = TypeVar("T")

_DIGITS = 20
"""Delta's log names its files by versions with as many digits."""
_MOST_TABLES = 64
_FACTS, _VERSION = "lakehouse_facts", ("version",)

Log = dict[str, tuple[int, int, int]]
"""File of a log -> its inode, size and time."""


@dataclass(frozen=True)
class _Idle:
    """A table that delta-rs has open, and the log that it was read from, up to its version."""

    raw: Any
    version: int
    log: Log
    facts: dict[tuple[object, ...], Any]


_idle: OrderedDict[str, _Idle] = OrderedDict()


def take(folder: str) -> tuple[DeltaTable, bool] | None:
    """The newest version of the table in a folder, if it was kept open, and whether that needed later commits.

    Raises:
        OSError, DeltaError: the log can't be read.
    """
    kept = None if is_remote(folder) else _idle.pop(folder, None)
    if kept is None:
        return None
    log = _log_of(folder)
    later = sorted({_version(name) for name in log if _version(name) > kept.version})
    if _until(kept.version, log) != kept.log or later != [*range(kept.version + 1, kept.version + 1 + len(later))]:
        return None
    from deltalake import DeltaTable

    table = DeltaTable.__new__(DeltaTable)
    table._storage_options, table._table = None, kept.raw
    vars(table)[_FACTS] = kept.facts
    if later:
        table.update_incremental()
    keep(folder, table, None if later else log)
    return table, bool(later)


def keep(folder: str, table: DeltaTable, log: Log | None = None) -> None:
    """Keeps a table of a folder open once its last reader has gone.

    Args:
        log: the files of its log, if they are known.
    """
    if not is_remote(folder):
        version = table.version()
        weakref.finalize(
            table, _put, folder, table._table, version, _until(version, log or _log_of(folder)), _facts(table)
        )


def remembered(table: DeltaTable, name: tuple[object, ...], make: Callable[[], T]) -> T:
    """What `make` computes of the table's present version, or computed before under the same name."""
    facts, version = _facts(table), table.version()
    if facts.get(_VERSION) != version:
        facts.clear()
        facts[_VERSION] = version
    if name not in facts:
        facts[name] = make()
    found: T = facts[name]
    return found


def _facts(table: DeltaTable) -> dict[tuple[object, ...], Any]:
    found: dict[tuple[object, ...], Any] = vars(table).setdefault(_FACTS, {})
    return found


def _put(folder: str, raw: Any, version: int, log: Log, facts: dict[tuple[object, ...], Any]) -> None:
    # Runs wherever the garbage collector does: a table that can't be kept is opened anew.
    with suppress(Exception):
        now = raw.version()
        if now > version:
            # Its reader made commits.
            found = _until(now, _log_of(folder))
            if _until(version, found) != log:
                return
            log = found
        if now >= version:
            _idle[folder] = _Idle(raw, now, log, facts)
        while len(_idle) > _MOST_TABLES:
            _idle.popitem(last=False)


def _until(version: int, log: Log) -> Log:
    """The files of a log up to a version."""
    return {name: seen for name, seen in log.items() if _version(name) <= version}


def _log_of(folder: str) -> Log:
    found: Log = {}
    with os.scandir(os.path.join(folder, LOG)) as entries:
        for entry in entries:
            # A commit that another process makes is in a file with a `#` in its name first.
            if not entry.name[:_DIGITS].isdigit() or "#" in entry.name:
                continue
            # Another process may delete old files of the log meanwhile.
            with suppress(FileNotFoundError):
                seen = entry.stat()
                found[entry.name] = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return found


def _version(name: str) -> int:
    return int(name[:_DIGITS])


# delta-rs can't be used in a fork of a process that has used it.
os.register_at_fork(after_in_child=_idle.clear)
