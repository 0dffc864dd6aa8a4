"""Lists the folders of a lake, which are its catalogue."""

from __future__ import annotations

import os
from pathlib import Path

from lakehouse.errors import HomeUnavailable, LakeUnavailable
from lakehouse.lake.location import Location, is_remote


def folders(uri: str) -> list[str]:
    """The names of the folders (in a bucket: the common prefixes) directly below `uri`, sorted; empty if `uri` doesn't
    exist.

    Raises:
        LakeUnavailable: the bucket can't be listed.
    """
    if not is_remote(uri):
        try:
            return sorted(entry.name for entry in os.scandir(uri) if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LakeUnavailable(f"{uri} can't be listed: {error.strerror}") from error
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    try:
        found = from_url(Location(uri).uri).list_with_delimiter()
    except BaseError as error:
        raise LakeUnavailable(f"{uri} can't be listed: {error}") from error
    return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in found["common_prefixes"])


def require_folder(home: Path) -> None:
    """Checks that the home is not a file.

    Raises:
        HomeUnavailable: it is one, or has a name that no folder can have.
    """
    try:
        is_file = home.is_file()
    except OSError as error:
        raise HomeUnavailable(f"{home}: {error.strerror}; set LAKEHOUSE_HOME to another name") from error
    if is_file:
        raise HomeUnavailable(f"{home} is a file, and a lake's home is a folder: set LAKEHOUSE_HOME to another name")
