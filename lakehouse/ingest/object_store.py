"""Opens a place of objects by its URL: a folder, a bucket or a server. `formats` reads the objects' contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from lakehouse.errors import SourceError, SourceUnavailable
from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess
from lakehouse.ingest.bucket import Bucket
from lakehouse.ingest.folder import Folder
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.stores import BUCKETS, bucket_store
from lakehouse.urls import fault_of, scheme_of, without_password

if TYPE_CHECKING:
    from obstore.store import ObjectStore


_FTP = {"ftp": "ftp://user@host/folder", "ftps": "ftps://user@host/folder"}
SOURCE_PLACES = BUCKETS | {"sftp": "sftp://user@host/folder", **_FTP}
TARGET_PLACES = BUCKETS
"""Places other than folders for reading and writing: scheme -> form of its URLs."""


def objects_at(url: str, access: ResolvedAccess = FROM_ENVIRONMENT, *, may_lack: bool = False) -> ObjectSource:
    """The objects below a URL: a folder (`/data/xetra`, `file:///...`), or a place of `SOURCE_PLACES`.

    Args:
        access: overrides the usual AWS_* variables or OpenSSH's files. A folder needs none.
        may_lack: treat a missing folder as empty instead of an error.

    Raises:
        SourceError: the URL's scheme is not supported.
    """
    require_known(url, SOURCE_PLACES)
    scheme = scheme_of(url)
    if scheme in BUCKETS:
        return Bucket(url, access)
    match scheme:
        case "sftp":
            from lakehouse.ingest.sftp import Sftp

            return Sftp(url, access)
        case "ftp" | "ftps":
            from lakehouse.ingest.ftp import Ftp

            return Ftp(url, access)
        case _:
            return Folder(folder_of(url), may_lack=may_lack)


def store_at(url: str, access: ResolvedAccess = FROM_ENVIRONMENT) -> ObjectStore:
    """Opens the store at a URL for writing; creates a missing folder.

    Raises:
        SourceError: the URL's scheme is not supported.
    """
    from obstore.store import LocalStore

    require_known(url, TARGET_PLACES)
    return bucket_store(url, access) if scheme_of(url) in BUCKETS else LocalStore(folder_of(url), mkdir=True)


def require_known(url: str, places: Mapping[str, str]) -> None:
    """Checks that a URL's scheme is one of `places`: any other would be taken for a folder's name.

    Raises:
        SourceError: it is not.
    """
    if fault := fault_of(url, places):
        raise SourceError(f"{without_password(url)}: {fault}")


def names_in(store: ObjectStore) -> set[str]:
    """The names of a target's objects.

    Raises:
        SourceUnavailable: the target can't be listed.
    """
    import obstore

    try:
        return {entry["path"] for entries in obstore.list(store) for entry in entries}
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SourceUnavailable(f"the target can't be listed: {error}") from error


def put_if_changed(store: ObjectStore, key: str, content: bytes) -> bool:
    """Writes an object atomically, unless it exists with the same content. Returns whether it was written.

    Raises:
        SourceUnavailable: the target can't be read or written.
    """
    import obstore

    try:
        if bytes(obstore.get(store, key).bytes()) == content:
            return False
    except FileNotFoundError:
        pass
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SourceUnavailable(f"{key} can't be read: {error}") from error
    try:
        obstore.put(store, key, content)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SourceUnavailable(f"{key} can't be written: {error}") from error
    return True


def folder_of(url: str) -> Path:
    """The folder that a path or a `file://` URL names."""
    return Path(unquote(url.removeprefix("file://")) if url.startswith("file://") else url).expanduser().absolute()
