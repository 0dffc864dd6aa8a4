"""Finds damage of a table's log, such as a crashed disk leaves, and names the file and the fix.

delta-rs reads an empty commit file as a commit without changes, and a log without commits as a table that was never
written: rows would be missing silently. It reports other damage without the file's name. Only folders are checked,
since a bucket never holds half an object.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from lakehouse.errors import TableDamaged

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\..*parquet")
_SHORTEST_ACTION = len('{"txn":{}}')
LOG = "_delta_log"


def require_whole_log(table: str, version: int) -> None:
    """Checks that the commits since the last checkpoint before a version are not empty.

    Raises:
        TableDamaged: one is.
    """
    with os.scandir(os.path.join(table, LOG)) as entries:
        found = list(entries)
    first = max((number for number in _numbers(_CHECKPOINT, found) if number <= version), default=-1) + 1
    for entry in found:
        name = _COMMIT.fullmatch(entry.name)
        if name and first <= int(name[1]) <= version and entry.stat().st_size < _SHORTEST_ACTION:
            raise _damaged(entry.path, "is empty")


def require_never_written(table: str) -> None:
    """Checks that a table without commits has no data.

    Raises:
        TableDamaged: it has.
    """
    try:
        with os.scandir(table) as entries:
            data = next((entry.name for entry in entries if "=" in entry.name), None)
    except (FileNotFoundError, NotADirectoryError):
        return
    # Another writer may have created and filled the table in the meantime.
    if data and not _has_commits(table):
        raise _damaged(os.path.join(table, LOG), f"has no commits, though the table has data ({data})")


def _has_commits(table: str) -> bool:
    try:
        with os.scandir(os.path.join(table, LOG)) as entries:
            return any(_COMMIT.fullmatch(entry.name) or _CHECKPOINT.fullmatch(entry.name) for entry in entries)
    except FileNotFoundError:
        return False


def diagnosed(table: str) -> TableDamaged | None:
    """The damage in the log of a table that can't be opened; None if the log is not the cause."""
    with os.scandir(os.path.join(table, LOG)) as entries:
        found = list(entries)
    newest = max(_numbers(_CHECKPOINT, found), default=-1)
    commits = {number: _commit(table, number) for number in _numbers(_COMMIT, found) if number > newest}
    for number in range(newest + 1, max(commits, default=newest) + 1):
        path = commits.get(number, _commit(table, number))
        if not path.is_file():
            return _damaged(path, "is missing")
        if why := _fault(path):
            return _damaged(path, why)
    return _damaged_checkpoint(table, [entry.path for entry in found if _CHECKPOINT.fullmatch(entry.name)])


def _damaged_checkpoint(table: str, checkpoints: list[str]) -> TableDamaged | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    hint = Path(table, LOG, "_last_checkpoint")
    if hint.exists() and not checkpoints:
        return _damaged(hint, "names a checkpoint that is missing")
    for path in sorted(checkpoints, reverse=True):
        try:
            pq.ParquetFile(path)
        except pa.ArrowException as error:
            return _damaged(path, f"is a damaged checkpoint ({error})")
    return None


def _commit(table: str, number: int) -> Path:
    return Path(table, LOG, f"{number:020}.json")


def _numbers(pattern: re.Pattern[str], entries: list[os.DirEntry[str]]) -> Iterator[int]:
    return (int(found[1]) for entry in entries if (found := pattern.fullmatch(entry.name)))


def _fault(commit: Path) -> str | None:
    content = commit.read_bytes()
    if len(content) < _SHORTEST_ACTION:
        return "is empty"
    try:
        for line in content.splitlines():
            json.loads(line)
    except ValueError as error:
        return f"is cut off or overwritten ({error})"
    return None


def _damaged(path: str | os.PathLike[str], why: str) -> TableDamaged:
    return TableDamaged(
        f"{os.fspath(path)} {why}, and rows of the table would be missing: restore it from a backup; without one, move "
        "the table's folder away and load its sources again, or rebuild it if it is derived"
    )
