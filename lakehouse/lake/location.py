"""Paths of a table's files in the form that delta-rs, DuckDB and Polars understand.

delta-rs percent-decodes the name of a folder twice, and panics on some characters; DuckDB reads `*`, `?` and `[` as a
pattern; both DuckDB and Polars read each `name=value` above a file as a partition. They never see such names:

- A space, an umlaut, `#`, `{` and the like: delta-rs names the file percent-encoded, and `file_name` decodes that.
- A local folder with one of `_HARD`: the libraries work below an alias, a folder with a plain name in the system's
  temporary folder with a link to each entry of the table's folder. (delta-rs would resolve a link to the table's folder
  itself.) Folders of new partitions are linked before they are written to. The alias holds no data and may be deleted
  at any time.
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

# Patterns, partition values, sequences that are decoded twice, separators, and characters that are not text.
_HARD = re.compile(r'[*?\[\]=\\^|<>"`\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}')


def is_remote(uri: str) -> bool:
    """Whether `uri` names a bucket; otherwise it is an absolute folder."""
    return uri.startswith("s3://")


def storage_options(uri: str) -> dict[str, str]:
    """Options of delta-rs for a table below `uri`."""
    # Credentials and endpoint come from AWS_* variables. Conditional puts make concurrent commits safe on S3.
    return {"conditional_put": "etag"} if is_remote(uri) else {}


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
        """The URI for delta-rs."""
        if self._alias is not None:
            return str(self._alias)
        return f"s3://{quote(self._uri.removeprefix('s3://'))}" if is_remote(self._uri) else self._uri

    @property
    def is_plain(self) -> bool:
        """Whether delta-rs returns the files' names as they are, so that other libraries may use them."""
        return self.uri == quote(self.uri, safe="/:")

    def exists(self) -> bool:
        """Whether there may be a table; always true for a bucket, which has to be read.

        Raises:
            OSError: the folder can't be read.
        """
        if is_remote(self._uri):
            return True
        try:
            return stat.S_ISDIR(os.stat(os.path.join(self._uri, LOG)).st_mode)
        except FileNotFoundError:
            return False

    def require_whole(self, version: int | None) -> None:
        """Checks that no damage hides rows of a version (None: of a table that seems never to have been written).

        Raises:
            TableDamaged: the log is damaged.
        """
        if is_remote(self._uri):
            return
        if version is None:
            require_never_written(self._uri)
        else:
            require_whole_log(self._uri, version)

    def damage(self) -> TableDamaged | None:
        """The damage of the log because of which the table can't be opened, if there is any and it can be read."""
        if is_remote(self._uri):
            return None
        try:
            return diagnosed(self._uri)
        except OSError:
            return None

    def open(self) -> None:
        """Brings the alias in line with the folder. Call it before opening a table, for its log, and again afterwards,
        for partitions that another writer has added meanwhile.
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
        """Creates the table's folder, its log's and those of `partitions` (such as `day=2024-03-01`), if an alias needs
        links to them before they are written to.
        """
        if self._alias is None:
            return
        _make_private(self._alias.parent)
        self._alias.mkdir(exist_ok=True)
        for name in (LOG, *partitions):
            os.makedirs(os.path.join(self._uri, name), exist_ok=True)
            self._link(name)

    def file_name(self, uri: str) -> str:
        """A file's name for Polars and the file system; delta-rs returns it percent-encoded."""
        return unquote(uri)

    def _link(self, name: str) -> None:
        assert self._alias is not None
        with suppress(FileExistsError):
            (self._alias / name).symlink_to(os.path.join(self._uri, name))


def plain_folder(folder: Path) -> Path:
    """A path to `folder` that is also valid in a URL, since Dagster and dbt put it there. Creates the folder."""
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
    """A folder in which DuckDB can write a database: `folder`, or a temporary one if its path has a `?`, before which
    DuckDB would insert the write-ahead log's `.wal`. DuckDB resolves links, so an alias doesn't help.
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
    """The folder of this user's aliases, below a temporary folder with a plain name."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if not _HARD.search(folder) and folder == quote(folder) and os.path.isdir(folder):
            return Path(folder).resolve() / f"lakehouse-{os.getuid()}"
    raise LakeUnavailable("there is no temporary folder with a plain name; set TMPDIR to one")


def _make_private(aliases: Path) -> None:
    """Creates the folder of the aliases, and checks that it is not another user's."""
    aliases.mkdir(mode=0o700, exist_ok=True)
    found = aliases.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise LakeUnavailable(f"{aliases} belongs to another user; remove it, or set TMPDIR to another folder")
