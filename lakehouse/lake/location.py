"""Where a table's files are, as the libraries that read and write them understand it.

delta-rs percent-decodes the name of a folder twice, and panics on some characters; DuckDB takes `*`, `?` and `[` for a
pattern; both DuckDB and Polars take each `name=value` above a file for the value of a partition. So they are given
no such name:

- A space, an umlaut, `#`, `{` and the like: delta-rs names the file percent-encoded, and `file_name` decodes that.
- A local folder with one of `_HARD`: the libraries work below an alias, a folder with a plain name in the system's
  temporary folder that holds a link to each entry of the table's folder. A link to the table's folder itself would
  not do, as delta-rs resolves it. Folders of new partitions are linked before they are written to. The alias holds
  no data and may be deleted at any time.
- A bucket's prefix with one of `_HARD` is rejected, as a bucket has no links.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote, unquote

from lakehouse.errors import LakeUnavailable, TableDamaged
from lakehouse.lake.damage import LOG, diagnosed, require_never_written, require_whole_log

# Patterns, partition values, what is decoded twice, what is taken for a separator, and what is no text.
_HARD = re.compile(r'[*?\[\]=\\^|<>"`\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}')


def is_remote(uri: str) -> bool:
    """Whether `uri` names a bucket; otherwise it is an absolute folder."""
    return uri.startswith("s3://")


class Location:
    """The place of one table, a folder or an s3:// URI.

    Raises:
        LakeUnavailable: the libraries can't read a bucket's prefix of that name.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._alias: Path | None = None
        found = _HARD.search(uri)
        if found and is_remote(uri):
            raise LakeUnavailable(
                f"{uri} can't be the place of a lake: DuckDB or delta-rs misreads {found[0]!r} in a bucket's prefix; "
                "set LAKEHOUSE_LAKE_URI to a prefix without it"
            )
        if found:
            self._alias = _alias_of(uri)

    @property
    def uri(self) -> str:
        """What delta-rs is given."""
        if self._alias is not None:
            return str(self._alias)
        return f"s3://{quote(self._uri.removeprefix('s3://'))}" if is_remote(self._uri) else self._uri

    @property
    def is_plain(self) -> bool:
        """Whether delta-rs names the files as they are, so that others may take the names from it."""
        return self.uri == quote(self.uri, safe="/:")

    def exists(self) -> bool:
        """Whether a table may be there; a bucket has to be asked.

        Raises:
            OSError: the folder can't be looked into.
        """
        if is_remote(self._uri):
            return True
        try:
            return stat.S_ISDIR(os.stat(os.path.join(self._uri, LOG)).st_mode)
        except FileNotFoundError:
            return False

    def require_whole(self, version: int | None) -> None:
        """Makes sure that no damage hides rows of a version (None: of a table that seems never to have been written).

        Raises:
            TableDamaged: it does.
        """
        if is_remote(self._uri):
            return
        if version is None:
            require_never_written(self._uri)
        else:
            require_whole_log(self._uri, version)

    def damage(self) -> TableDamaged | None:
        """Why the table can't be opened, where that is damage of its log and the log can be read."""
        if is_remote(self._uri):
            return None
        try:
            return diagnosed(self._uri)
        except OSError:
            return None

    def open(self) -> None:
        """Makes the alias show what is in the folder. Call it before a table is opened, for its log, and again after
        that, for partitions that another writer has added meanwhile.
        """
        if self._alias is None:
            return
        _make_private(self._alias.parent)
        self._alias.mkdir(exist_ok=True)
        there = {entry.name for entry in os.scandir(self._uri)}
        linked = {entry.name for entry in os.scandir(self._alias)}
        for name in there - linked:
            self._link(name)
        for name in linked - there:
            # Dangling, unless another process has just made the folder.
            if not (self._alias / name).exists():
                (self._alias / name).unlink(missing_ok=True)

    def create(self, partitions: Iterable[str] = ()) -> None:
        """Makes the table's folder, its log's and those of `partitions` (such as `session=2024-03-01`), where an alias
        has to show them before they are written to.
        """
        if self._alias is None:
            return
        _make_private(self._alias.parent)
        self._alias.mkdir(exist_ok=True)
        for name in (LOG, *partitions):
            os.makedirs(os.path.join(self._uri, name), exist_ok=True)
            self._link(name)

    def file_name(self, uri: str) -> str:
        """The name of a file, which delta-rs gives percent-encoded, as Polars takes it and the file system has it."""
        return unquote(uri)

    def _link(self, name: str) -> None:
        assert self._alias is not None
        with suppress(FileExistsError):
            (self._alias / name).symlink_to(os.path.join(self._uri, name))


def plain_folder(folder: Path) -> Path:
    """`folder`, made where it is missing, by a name that also fits into a URL, as which Dagster and dbt take it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _HARD.search(str(folder)) and not re.search("[#%]", str(folder)):
        return folder
    alias = _alias_of(str(folder))
    _make_private(alias.parent)
    if alias.is_dir():
        return alias
    with suppress(FileExistsError):
        alias.symlink_to(folder)
    return alias


def database_folder(folder: Path) -> Path:
    """A folder in which DuckDB can write a database: `folder`, or a temporary one where it is below a name with `?`,
    before which DuckDB puts the write-ahead log's `.wal`. It resolves links, so that an alias would not do.
    """
    if "?" not in str(folder):
        return plain_folder(folder)
    temporary = _alias_of(f"{folder}/")
    _make_private(temporary.parent)
    temporary.mkdir(exist_ok=True)
    return temporary


def _alias_of(path: str) -> Path:
    return _aliases() / blake2b(os.fsencode(path), digest_size=16).hexdigest()


def _aliases() -> Path:
    """The folder of the aliases of this user, below a temporary folder with a plain name."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if not _HARD.search(folder) and folder == quote(folder) and os.path.isdir(folder):
            return Path(folder).resolve() / f"lakehouse-{os.getuid()}"
    raise LakeUnavailable("there is no temporary folder with a plain name; set TMPDIR to one")


def _make_private(aliases: Path) -> None:
    """Makes the folder of the aliases, and sees to it that no other user can have put it there."""
    aliases.mkdir(mode=0o700, exist_ok=True)
    found = aliases.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise LakeUnavailable(f"{aliases} belongs to another user; remove it, or set TMPDIR to another folder")
