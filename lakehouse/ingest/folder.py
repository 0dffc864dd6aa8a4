"""Objects in a folder: every regular file below it, listed and fetched by its path.

We walk the folder ourselves, since one unreadable entry must not hide the others: entries with an unusable name, that
can't be opened, or that lie outside the folder are skipped and reported. Objects in a bucket belong in `bucket`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import IO

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.listing import FoundFiles, Listing, unusable
from lakehouse.ingest.spool import spooled

# Errors of a single file or folder; any other error is one of the disk or the file server.
_OF_ONE_ENTRY = {
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENOENT, errno.ENXIO, errno.EINVAL, errno.EIO),
}
_COPIED_BYTES = 1 << 20


class Folder:
    """The files below a folder, which may be missing with `may_lack`."""

    def __init__(self, folder: Path, *, may_lack: bool = False) -> None:
        self._folder = folder
        self._may_lack = may_lack

    def list(self, prefix: str = "") -> Listing:
        """Every file below `prefix` (a folder), in no particular order.

        Links are followed within the folder: to files, and to folders that don't contain the link. Inside a linked
        folder, links to folders are skipped, so that the walk ends.

        Raises:
            SourceUnavailable: the folder is missing or can't be read.
        """
        found = FoundFiles()
        root = os.path.realpath(self._folder)
        waiting = [(os.path.join(root, prefix), f"{prefix}/" if prefix else "", False)]
        while waiting:
            folder, name, is_linked = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        below = _look_at(entry, f"{name}{entry.name}", root, is_linked, found)
                        if below is not None:
                            waiting.append((below[0], f"{name}{entry.name}/", below[1]))
            except OSError as error:
                self._passed_over(name, error, prefix, found)
        return found.listing()

    def folders(self, below: str) -> Collection[str] | None:
        """The names of the folders directly in `below`; None if it can't be read, which a listing explains."""
        try:
            with os.scandir(self._folder / below) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except OSError:
            return None

    def stamp(self, below: str) -> int | None:
        """The newest modification time of `below` and of the folders directly in it; None if it can't be read."""
        folder = self._folder / below
        try:
            with os.scandir(folder) as entries:
                times = [entry.stat().st_mtime_ns for entry in entries if entry.is_dir()]
            return max([folder.stat().st_mtime_ns, *times])
        except OSError:
            return None

    def _passed_over(self, name: str, error: OSError, prefix: str, found: FoundFiles) -> None:
        is_top = name.rstrip("/") == prefix
        if is_top and error.errno == errno.ENOENT and (prefix or self._may_lack):
            return
        if is_top and not prefix and error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise SourceUnavailable(
                f"{self._folder} is no folder; set the source's URL to where its objects are"
            ) from error
        if is_top or error.errno not in _OF_ONE_ENTRY:
            raise SourceUnavailable(f"{self._folder} can't be listed: {error.strerror}: {name or '.'}") from error
        if error.errno != errno.ENOENT:
            found.pass_over(name, error.strerror or "can't be listed")

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """A copy, which doesn't change, of the file that was listed with `path` and `tag`.

        Raises:
            ObjectReplaced: it was replaced or removed since it was listed.
            ObjectUnreadable: this file can't be read.
            SourceUnavailable: none can.
        """
        root = os.path.realpath(self._folder)
        try:
            target = os.path.realpath(os.path.join(root, path), strict=True)
            if not _is_inside(target, root):
                raise ObjectUnreadable(f"{path} is a link that leads out of {self._folder}; put a copy in its place")
            with open(target, "rb") as file:
                content = spooled(iter(lambda: file.read(_COPIED_BYTES), b""))
                if tag is not None and tag != _tag(os.fstat(file.fileno())):
                    raise ObjectReplaced(f"{self._folder}: {path} was replaced while it was read")
                return content
        except FileNotFoundError as error:
            if not self._folder.is_dir():
                raise SourceUnavailable(f"{self._folder} is gone") from error
            raise ObjectReplaced(f"{self._folder}: {path} was removed after it was listed") from error
        except OSError as error:
            if error.errno in _OF_ONE_ENTRY:
                raise ObjectUnreadable(
                    f"{path} can't be read: {error.strerror}; make it readable and load it again"
                ) from error
            raise SourceUnavailable(f"{self._folder}: {path} can't be read: {error.strerror}") from error

    def can_read(self, path: str) -> bool:
        """Whether the file at `path`, which is listed, can be read by now.

        Raises:
            SourceUnavailable: the folder can't be read.
        """
        try:
            with open(self._folder / path, "rb") as file:
                file.read(1)
        except OSError as error:
            if error.errno in _OF_ONE_ENTRY:
                return False
            raise SourceUnavailable(f"{self._folder}: {path} can't be read: {error.strerror}") from error
        return True

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the file at `path` is still the version that was listed; what has gone, or is kept back, was not
        replaced.

        Raises:
            SourceUnavailable: the folder can't be read.
        """
        try:
            return tag is None or tag == _tag(os.stat(self._folder / path))
        except OSError as error:
            if error.errno in _OF_ONE_ENTRY:
                return True
            raise SourceUnavailable(f"{self._folder}: {path} can't be read: {error.strerror}") from error


def _look_at(
    entry: os.DirEntry[str], name: str, root: str, is_linked: bool, found: FoundFiles
) -> tuple[str, bool] | None:
    """Collects a file; for a folder to be walked, returns its path and whether it was reached by a link."""
    if why := unusable(entry.name):
        found.pass_over(name, why)
        return None
    if not entry.is_symlink():
        if entry.is_dir():
            return entry.path, is_linked
        if entry.is_file():
            # It may have been removed since its folder was listed.
            with suppress(FileNotFoundError):
                _add(found, name, entry.stat())
        elif os.path.lexists(entry.path):
            found.pass_over(name, "neither a file nor a folder")
        return None
    try:
        target = os.path.realpath(entry.path, strict=True)
        status = os.stat(target)
    except OSError as error:
        found.pass_over(name, f"a link that can't be followed: {error.strerror}")
        return None
    if not _is_inside(target, root):
        found.pass_over(name, "a link that leads out of the source's folder")
    elif os.path.isfile(target):
        _add(found, name, status)
    elif _is_inside(os.path.realpath(entry.path[: -len(entry.name)]), target):
        found.pass_over(name, "a link to a folder that contains it")
    elif is_linked:
        found.pass_over(name, "a link to a folder inside of a linked folder")
    elif os.path.isdir(target):
        return target, True
    else:
        found.pass_over(name, "a link to neither a file nor a folder")
    return None


def _add(found: FoundFiles, name: str, status: os.stat_result) -> None:
    found.add(name, status.st_mtime_ns, status.st_size, _tag(status))


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _tag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
